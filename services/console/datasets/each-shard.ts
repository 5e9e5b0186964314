/** Asks all shards, a few at a time. */
const maxConcurrent = 8;

/** The results in the order of `items`. `work` must not reject. */
export async function each<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  const left = [...items.entries()];
  const next = async (): Promise<void> => {
    for (let entry = left.shift(); entry !== undefined; entry = left.shift()) results[entry[0]] = await work(entry[1]);
  };
  await Promise.all(Array.from({ length: maxConcurrent }, next));
  return results;
}
