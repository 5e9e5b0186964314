/** Requests to a shard as its clients and the console send them. */
import type { OutgoingHttpHeaders } from 'node:http';
import { type CallerHeaders, callerHeaders } from '../../../support/caller.ts';
import { call } from '../../../support/http.ts';
import { waitFor } from '../../../support/wait.ts';
import { metric, type TestShard } from '../../support/shard.ts';

interface ShardUrl {
  readonly url: string;
}

/** The headers of the console. */
export function manager(credential?: string): CallerHeaders {
  const caller = { namespace: 'kura-system', serviceAccount: 'kura-console', mayManage: true };
  return callerHeaders(credential === undefined ? caller : { ...caller, credential });
}

export function asWriter(namespace: string): CallerHeaders {
  return callerHeaders({ namespace });
}

/** Asks as the console. */
export async function ask(
  { url }: ShardUrl,
  path: string,
  options: { method?: string; headers?: CallerHeaders | OutgoingHttpHeaders } = {},
) {
  const { method = 'GET', headers = { ...manager() } } = options;
  const answer = await call(url, { method, path, headers: { ...headers } });
  const lines = answer.body
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  return { ...answer, lines, json: lines[0] };
}

/** Stores an object. Returns the response. */
export async function put({ url }: ShardUrl, key: string, bytes: number, headers: CallerHeaders = asWriter('vision')) {
  return await call(url, {
    method: 'PUT',
    path: `/objects/${key}`,
    body: Buffer.alloc(bytes, 1),
    headers: { ...headers, 'content-length': bytes },
  });
}

/** Waits until recovery has counted all files. */
export async function isCounted(shard: TestShard): Promise<void> {
  await waitFor('all files are counted', async () => (await metric(shard, 'kura_cache_recovered_ratio')) === 1);
}

/** The status of a GET. */
export async function get({ url }: ShardUrl, key: string): Promise<number> {
  return (await call(url, { path: `/objects/${key}`, headers: { ...asWriter('vision') } })).status;
}
