/** Reads the numbers of all shards from the status page of a console. */
import { request } from 'undici';
import type { ShardNumbers as PageNumbers } from '../../shared/shard-numbers.ts';
import { flatNumbers, type ShardReading } from './shard-numbers.ts';

interface ConsoleStatus {
  readonly at: string;
  readonly shards: readonly { readonly hashKey: string; readonly numbers?: PageNumbers }[];
}

const maxResponseMs = 20_000;

/** `url` is the address of the page. */
export async function readConsole(url: string): Promise<ShardReading> {
  const { at, shards } = JSON.parse(await getText(new URL('/status.json', url).href)) as ConsoleStatus;
  return {
    atMs: Date.parse(at),
    shards: shards.map(({ hashKey, numbers }) => ({
      name: hashKey,
      // JSON has the namespaces as an object.
      numbers: numbers === undefined ? undefined : flatNumbers({ ...numbers, namespaces: new Map(Object.entries(numbers.namespaces)) }),
    })),
  };
}

export async function getText(url: string): Promise<string> {
  const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(maxResponseMs) });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`${new URL(url).pathname}: status ${statusCode}`);
  return text;
}
