/** Checks as Envoy sends them, over two connections (an Envoy of two workers), for bench-authz.ts. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { loadEnvoyProtos } from '../../proto/load.ts';

interface CheckClient {
  /** The answer's bytes. */
  check(request: Buffer): Promise<Buffer>;
  close(): void;
}

export interface Calls {
  readonly count: number;
  readonly perSecond: number;
  /** Answers that are not an allow, and errors. */
  readonly refused: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

const method = loadEnvoyProtos().envoy.service.auth.v3.Authorization.service.Check;
/** Envoy gives a check 1 s; a server that lags behind must not pile up more than this here. */
const mostInFlight = 2_000;

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
          value === undefined ? reject(error ?? new Error('no answer')) : resolve(value),
        );
      }),
    close: () => {
      for (const client of clients) client.close();
    },
  };
}

/** What Envoy sends of a GET that carries this token, as its bootstrap lets it. */
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

/** As many at once as `inFlight`, for some seconds; each with the next request. */
export async function closedLoop(
  client: CheckClient,
  requests: readonly Buffer[],
  { inFlight, seconds }: { inFlight: number; seconds: number },
): Promise<Calls> {
  const tally = new Tally();
  let next = 0;
  const end = performance.now() + seconds * 1000;
  const caller = async (): Promise<void> => {
    while (performance.now() < end) await tally.time(client.check(requests[next++ % requests.length] as Buffer));
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return tally.calls(seconds);
}

/** So many a second, whether they are answered or not: what a slow answer delays is not left out. */
export async function openLoop(
  client: CheckClient,
  requests: () => Buffer,
  { perSecond, seconds }: { perSecond: number; seconds: number },
): Promise<Calls> {
  const tally = new Tally();
  const startedAt = performance.now();
  const underWay = new Set<Promise<void>>();
  for (let sent = 0; performance.now() - startedAt < seconds * 1000; ) {
    const due = ((performance.now() - startedAt) / 1000) * perSecond;
    for (; sent < due; sent++) {
      if (underWay.size >= mostInFlight) throw new Error(`${mostInFlight} checks are unanswered`);
      const call = tally.time(client.check(requests())).finally(() => underWay.delete(call));
      underWay.add(call);
    }
    await delay(1);
  }
  await Promise.all(underWay);
  return tally.calls(seconds);
}

class Tally {
  readonly #millis: number[] = [];
  #refused = 0;

  async time(call: Promise<Buffer>): Promise<void> {
    const startedAt = performance.now();
    const answer = await call.catch(() => undefined);
    this.#millis.push(performance.now() - startedAt);
    if (answer === undefined || !isAllow(answer)) this.#refused++;
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

/** Only an allow names the caller for the shard. */
function isAllow(answer: Buffer): boolean {
  return answer.includes('x-kura-caller');
}
