/** Sends checks like an Envoy with two workers, over two connections, for authz.ts. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { loadEnvoyProtos } from '../../proto/load.ts';

interface CheckClient {
  /** Resolves with the encoded response. */
  check(request: Buffer): Promise<Buffer>;
  close(): void;
}

export interface Calls {
  readonly count: number;
  readonly perSecond: number;
  /** Denials and errors. */
  readonly refused: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

const method = loadEnvoyProtos().envoy.service.auth.v3.Authorization.service.Check;
/** Envoy's timeout for a check is 1 s. The bench fails if a slow server accumulates more checks than this. */
const maxInFlight = 2_000;

export function connect(socket: string): CheckClient {
  const options = { 'grpc.use_local_subchannel_pool': 1 };
  const clients = [1, 2].map(() => new Client(`unix:${socket}`, credentials.createInsecure(), options));
  const same = (bytes: Buffer): Buffer => bytes;
  let turn = 0;
  return {
    check: (request) =>
      new Promise((resolve, reject) => {
        const client = clients[turn++ % clients.length] as Client;
        client.makeUnaryRequest(method.path, same, same, request, (error, value) =>
          value === undefined ? reject(error ?? new Error('no response')) : resolve(value),
        );
      }),
    close: () => {
      for (const client of clients) client.close();
    },
  };
}

/** The check that Envoy sends for a GET with this token. */
export function requestOf(token: string, target: string): Buffer {
  const http = {
    id: '1234567890123456789',
    method: 'GET',
    headers: { authorization: `Bearer ${token}` },
    path: target,
    host: 'kura',
    scheme: 'http',
    protocol: 'HTTP/1.1',
  };
  const address = (port: number) => ({ address: { socket_address: { address: '127.0.0.1', port_value: port } } });
  return method.requestSerialize({ attributes: { source: address(40_000), destination: address(8080), request: { http } } });
}

/** Keeps `inFlight` checks in progress for the given time. */
export async function closedLoop(
  client: CheckClient,
  requests: readonly Buffer[],
  { inFlight, seconds }: { inFlight: number; seconds: number },
): Promise<Calls> {
  const statistics = new CallStatistics();
  let next = 0;
  const end = performance.now() + seconds * 1000;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) await statistics.time(client.check(requests[next++ % requests.length] as Buffer));
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return statistics.calls(seconds);
}

/** Sends checks at a fixed rate, independent of the responses, so that delays by slow responses are measured. */
export async function openLoop(
  client: CheckClient,
  requests: () => Buffer,
  { perSecond, seconds }: { perSecond: number; seconds: number },
): Promise<Calls> {
  const statistics = new CallStatistics();
  const startedAt = performance.now();
  const inProgress = new Set<Promise<void>>();
  for (let sent = 0; performance.now() - startedAt < seconds * 1000; ) {
    const due = ((performance.now() - startedAt) / 1000) * perSecond;
    for (; sent < due; sent++) {
      if (inProgress.size >= maxInFlight) throw new Error(`${maxInFlight} checks have no response`);
      const call = statistics.time(client.check(requests())).finally(() => inProgress.delete(call));
      inProgress.add(call);
    }
    await delay(1);
  }
  await Promise.all(inProgress);
  return statistics.calls(seconds);
}

class CallStatistics {
  readonly #millis: number[] = [];
  #refused = 0;

  async time(call: Promise<Buffer>): Promise<void> {
    const startedAt = performance.now();
    const response = await call.catch(() => undefined);
    this.#millis.push(performance.now() - startedAt);
    if (response === undefined || !isAllow(response)) this.#refused++;
  }

  calls(seconds: number): Calls {
    const sorted = this.#millis.sort((a, b) => a - b);
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    return {
      count: sorted.length,
      perSecond: sorted.length / seconds,
      refused: this.#refused,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      worstMs: at(1),
    };
  }
}

/** Only an allow contains the caller header for the shard. */
function isAllow(response: Buffer): boolean {
  return response.includes('x-kura-caller');
}
