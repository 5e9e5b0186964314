/** A workload's side of the Service `kura`: connections that are kept, each to an Envoy that kube-proxy would choose. */
import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface ServiceClient {
  /** Rejects when there is no whole answer within the 3 s that real clients wait. */
  send(method: string, key: string, options: { token: string; body?: string }): Promise<Reply>;
  close(): void;
}

const answerLimitMs = 3_000;
const objectsPort = 8080;

/** `addresses` are those of the Service's ready endpoints. One connection unless `connections` says otherwise. */
export function createServiceClient(addresses: () => readonly string[], connections = 1): ServiceClient {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  agent.createConnection = () => {
    const ready = addresses();
    return connect({ host: ready[Math.floor(Math.random() * ready.length)] ?? '', port: objectsPort });
  };
  return {
    send: (method, key, { token, body }) =>
      new Promise((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}` };
        // The time to connect counts: a Node that is lost sends nothing back.
        const signal = AbortSignal.timeout(answerLimitMs);
        const outgoing = request({ host: 'kura', path: `/objects/${key}`, method, agent, signal, headers }, (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (text += chunk));
          response.on('error', reject);
          response.on('end', () => resolve({ status: response.statusCode as number, headers: response.headers, body: text }));
        });
        outgoing.on('error', (error) => reject(signal.aborted ? new Error(`no answer within ${answerLimitMs} ms`) : error));
        outgoing.end(body);
      }),
    close: () => agent.destroy(),
  };
}

export interface Load {
  readonly counts: { hits: number; misses: number; writes: number };
  /** What was neither the object, a miss nor a stored object, with when it happened. */
  readonly failures: string[];
  /** Resolves with what it met, in a line. */
  stop(): Promise<string>;
}

const pauseMs = 10;
const sideBySide = 16;

/** Readers, each on a connection of its own, that go through `keys` (whose objects are `of <key>`), and a writer that stores new ones. */
export function startLoad({
  addresses,
  token,
  keys,
  readers = 4,
  writes = true,
}: {
  addresses: () => readonly string[];
  token: string;
  keys: readonly string[];
  readers?: number;
  writes?: boolean;
}): Load {
  const stopping = new AbortController();
  const counts = { hits: 0, misses: 0, writes: 0 };
  const failures: string[] = [];
  const startedAt = performance.now();
  const once = async (client: ServiceClient, method: string, key: string): Promise<void> => {
    const at = performance.now() - startedAt;
    const fail = (what: string): void => {
      failures.push(`after ${(at / 1000).toFixed(2)} s, ${method} ${key}: ${what} (${(performance.now() - startedAt - at).toFixed(0)} ms)`);
    };
    try {
      const { status, body } = await client.send(method, key, { token, ...(method === 'PUT' ? { body: `of ${key}` } : {}) });
      if (method === 'PUT' && status === 201) counts.writes++;
      else if (method === 'GET' && status === 200 && body === `of ${key}`) counts.hits++;
      else if (method === 'GET' && status === 404) counts.misses++;
      else fail(`${status} ${body.trim()}`);
    } catch (error) {
      fail((error as Error).message);
    }
  };
  const worker = async (method: string, keyOf: (index: number) => string): Promise<void> => {
    const client = createServiceClient(addresses);
    for (let index = 0; !stopping.signal.aborted; index++) {
      await once(client, method, keyOf(index));
      await delay(pauseMs);
    }
    client.close();
  };
  const work = Array.from({ length: readers }, (_, reader) =>
    worker('GET', (index) => keys[(index + reader * 31) % keys.length] as string),
  );
  if (writes) work.push(worker('PUT', (index) => `vision/written/${index % 500}`));
  return {
    counts,
    failures,
    stop: async () => {
      stopping.abort();
      await Promise.all(work);
      return `${counts.hits} hits, ${counts.misses} misses, ${counts.writes} writes, ${failures.length} failed`;
    },
  };
}

/** The statuses of a request for each key, whose objects are `of <key>`; some at a time, so that none waits long for its connection. */
export async function statusesOf(client: ServiceClient, method: 'GET' | 'PUT', keys: readonly string[], token: string): Promise<number[]> {
  const statuses = new Set<number>();
  const left = [...keys];
  const worker = async (): Promise<void> => {
    for (let key = left.pop(); key !== undefined; key = left.pop()) {
      const { status } = await client.send(method, key, { token, ...(method === 'PUT' ? { body: `of ${key}` } : {}) });
      statuses.add(status);
    }
  };
  await Promise.all(Array.from({ length: sideBySide }, worker));
  return [...statuses];
}

/** The shard of each key by that Envoy, as its answers name it; what is stored under the keys does not matter. */
export async function placementAt(address: string, token: string, keys: readonly string[]): Promise<Map<string, string>> {
  const shards = new Map<string, string>();
  const left = [...keys];
  const client = createServiceClient(() => [address], sideBySide);
  const worker = async (): Promise<void> => {
    for (let key = left.pop(); key !== undefined; key = left.pop()) {
      const { headers } = await client.send('HEAD', key, { token });
      shards.set(key, String(headers['x-kura-shard']));
    }
  };
  try {
    await Promise.all(Array.from({ length: sideBySide }, worker));
  } finally {
    client.close();
  }
  return shards;
}

/** How many keys lie elsewhere than before, in per cent. */
export function moved(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): number {
  return ([...before].filter(([key, shard]) => after.get(key) !== shard).length / before.size) * 100;
}
