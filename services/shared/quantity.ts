/** Pure: numbers of bytes, written as Kubernetes quantities. K, M, G and T are powers of 1000; Ki, Mi, Gi and Ti are powers of 1024. */

/** Undefined for a string that is not a quantity, such as `12 GB`. */
export function parseQuantity(text: string): number | undefined {
  const match = /^(\d{1,15})(|[KMGT]i?)$/.exec(text);
  if (match === null) return undefined;
  const [, digits, unit = ''] = match;
  return Number(digits) * (unit.endsWith('i') ? 1024 : 1000) ** ' KMGT'.indexOf(unit[0] ?? ' ');
}

/** Uses the largest unit (a power of 1024) that is exact. */
export function formatQuantity(bytes: number): string {
  const step = [4, 3, 2, 1, 0].find((power) => bytes % 1024 ** power === 0) as number;
  return `${bytes / 1024 ** step}${['', 'Ki', 'Mi', 'Gi', 'Ti'][step]}`;
}
