/** Sends checks for authz.ts as Envoy does, over two connections, like an Envoy with two workers. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import { loadEnvoyProtos } from '../../proto/load.ts';

interface CheckClient {
  /** Returns the bytes of the response. */
  check(request: Buffer): Promise<Buffer>;
  close(): void;
}

export interface Calls {
  readonly count: number;
  readonly perSecond: number;
  /** Errors, and responses other than an allow. */
  readonly refused: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

const method = loadEnvoyProtos().envoy.service.auth.v3.Authorization.service.Check;
/** Envoy limits a check to 1 s. The benchmark stops when a slow server has more unanswered checks than this. */
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

/** Keeps `inFlight` checks in flight for `seconds`. Each response is followed by the next request. */
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

/** Sends `perSecond` checks per second without waiting for responses, so that slow responses count in full. */
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
      if (underWay.size >= mostInFlight) throw new Error(`${mostInFlight} checks have no response`);
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

/** Only an allow contains the header with the namespace. */
function isAllow(answer: Buffer): boolean {
  return answer.includes('x-kura-namespace');
}
