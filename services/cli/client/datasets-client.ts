/** The HTTP client for `/datasets/`: totals, keys and removal of a prefix. */

import { Agent, type Dispatcher } from 'undici';
import type { DatasetUse, RemovalProgress } from '../../shared/datasets-api.ts';
import { problemText } from './problem-text.ts';
import { TokenFile } from './token-file.ts';

/** Above the 30 s of Envoy. */
const responseTimeoutMs = 35_000;
const connectTimeoutMs = 2_000;
const pageKeys = 4_000;
/** What the user can do, by the code of the problem. */
const hints: Readonly<Record<string, string>> = {
  'no-such-path': 'this server has no data sets; its operator can add the component console',
  forbidden: 'this needs LIST (rm -r: DELETE) over the whole prefix',
  'shard-unavailable': 'the console of the server does not answer; repeat the command, or ask the operator',
};

interface Totals extends DatasetUse {
  readonly complete: boolean;
  readonly children: readonly DatasetUse[];
  readonly shards: readonly { readonly shard: string; readonly state: string }[];
}

export interface KeyEntry {
  readonly key: string;
  readonly size: number;
  readonly modified: string;
  readonly writer: string;
}

export class DatasetsClient {
  readonly #server: string;
  readonly #token: TokenFile;
  readonly #signal: AbortSignal;
  readonly #agent = new Agent({
    connections: 1,
    headersTimeout: responseTimeoutMs,
    bodyTimeout: responseTimeoutMs,
    connect: { timeout: connectTimeoutMs },
  });

  constructor({ server, tokenFile, signal }: { server: string; tokenFile: string; signal: AbortSignal }) {
    this.#server = server;
    this.#token = new TokenFile(tokenFile);
    this.#signal = signal;
  }

  totals(prefix: string): Promise<Totals> {
    return this.#json<Totals>('GET', prefix);
  }

  /** Yields the keys of each page. Returns whether the list is complete. */
  async *keys(prefix: string): AsyncGenerator<readonly KeyEntry[], boolean> {
    let isComplete = true;
    for (let after: string | undefined = ''; after !== undefined; ) {
      const text = await this.#text('GET', `${prefix}?keys&limit=${pageKeys}${after === '' ? '' : `&after=${after}`}`);
      const lines = text.trimEnd().split('\n');
      const end = JSON.parse(lines.pop() ?? '') as { next?: string; complete: boolean };
      isComplete &&= end.complete;
      after = end.next;
      yield lines.map((line) => JSON.parse(line) as KeyEntry);
    }
    return isComplete;
  }

  remove(prefix: string): Promise<RemovalProgress> {
    return this.#json<RemovalProgress>('DELETE', prefix);
  }

  progress(prefix: string, removal: string): Promise<RemovalProgress> {
    return this.#json<RemovalProgress>('GET', `${prefix}?removal=${encodeURIComponent(removal)}`);
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #json<T>(method: Dispatcher.HttpMethod, target: string): Promise<T> {
    return JSON.parse(await this.#text(method, target)) as T;
  }

  async #text(method: Dispatcher.HttpMethod, target: string): Promise<string> {
    const { statusCode, body } = await this.#agent.request({
      origin: this.#server,
      path: `/datasets/${target}`,
      method,
      headers: { authorization: `Bearer ${await this.#token.read()}` },
      signal: this.#signal,
    });
    const text = await body.text();
    if (statusCode >= 300) throw new Error(refusal(statusCode, text));
    return text;
  }
}

function refusal(status: number, text: string): string {
  const problem = problemText(status, text);
  const [, code = ''] = /^\d+ ([a-z-]+)/.exec(problem) ?? [];
  const hint = hints[code];
  return hint === undefined ? problem : `${problem}\n${hint}`;
}
