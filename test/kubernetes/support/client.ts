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
  agent.createConnection = (_options, done) => {
    const ready = addresses();
    const host = ready[Math.floor(Math.random() * ready.length)] ?? '';
    const socket = connect({ host, port: objectsPort }, () => done?.(null, socket));
    socket.once('error', (error) => done?.(error, socket));
    return undefined;
  };
  return {
    send: (method, key, { token, body }) =>
      new Promise((resolve, reject) => {
        const outgoing = request(
          { host: 'kura', path: `/objects/${key}`, method, agent, timeout: answerLimitMs, headers: { authorization: `Bearer ${token}` } },
          (response) => {
            let text = '';
            response.setEncoding('utf8');
            response.on('data', (chunk: string) => (text += chunk));
            response.on('error', reject);
            response.on('end', () => resolve({ status: response.statusCode as number, headers: response.headers, body: text }));
          },
        );
        outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${answerLimitMs} ms`)));
        outgoing.on('error', reject);
        outgoing.end(body);
      }),
    close: () => agent.destroy(),
  };
}

export interface Load {
  readonly counts: { hits: number; misses: number; writes: number };
  /** What was neither the object, a miss nor a stored object, with when it happened. */
  readonly failures: string[];
  stop(): Promise<void>;
}

const pauseMs = 10;

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
    },
  };
}

/** The shard of each key, as the answers name it; what is stored under the keys does not matter. */
export async function placement(client: ServiceClient, token: string, keys: readonly string[]): Promise<Map<string, string>> {
  const shards = await Promise.all(
    keys.map(async (key) => {
      const { headers } = await client.send('HEAD', key, { token });
      return [key, String(headers['x-kura-shard'])] as const;
    }),
  );
  return new Map(shards);
}

/** How many keys lie elsewhere than before, in per cent. */
export function moved(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): number {
  return ([...before].filter(([key, shard]) => after.get(key) !== shard).length / before.size) * 100;
}
