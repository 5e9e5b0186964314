/**
 * A hostile client, run as a program with a `Flood` in JSON. Prints a `FloodResult` in JSON when it has sent its requests or its time is
 * over. It runs beside the test, so that its work does not delay the client of the test.
 */
import { connect, type Socket } from 'node:net';

export interface Flood {
  readonly port: number;
  readonly connections: number;
  readonly maxRequests: number;
  readonly maxMs: number;
  readonly kind: 'silent' | keyof typeof authorizations;
  /** For spellings and forgeries. */
  readonly token?: string;
  /** For `long`. */
  readonly bytes?: number;
  /** Requests that a connection sends before it waits for their responses; 1 without it. */
  readonly pipeline?: number;
}

export interface FloodResult {
  /** Responses by status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Connections that ended before a response, or without a request. */
  readonly closed: number;
}

/** Authorization of the request with this number; undefined for none. */
const authorizations = {
  none: () => undefined,
  long: () => `Bearer ${'A'.repeat(flood.bytes ?? 0)}`,
  /** Another case or number of spaces. No spelling is the right one. */
  spellings: (index: number) => {
    const scheme = [...'bearer'].map((letter, at) => ((index >> at) & 1 ? letter.toUpperCase() : letter)).join('');
    return `${scheme}${' '.repeat(2 + (index >> 6))}${flood.token}`;
  },
  /** Each with another signature. */
  forgeries: (index: number) => `Bearer ${flood.token?.slice(0, -8)}${String(index).padStart(8, '0')}`,
} as const satisfies Record<string, (index: number) => string | undefined>;

const flood = JSON.parse(process.argv[2] as string) as Flood;
const headEnd = '\r\n\r\n';
const statuses: Record<string, number> = {};
let closed = 0;
let sent = 0;
const deadline = performance.now() + flood.maxMs;
const isOver = (): boolean => sent >= flood.maxRequests || performance.now() > deadline;
const sockets = new Set<Socket>();
/** A slow machine may take longer for the last response of each connection. */
const graceMs = flood.kind === 'silent' ? 0 : 60_000;
setTimeout(() => {
  for (const socket of sockets) socket.destroy();
}, flood.maxMs + graceMs).unref();

await Promise.all(Array.from({ length: flood.connections }, flood.kind === 'silent' ? keepSilent : sendRequests));
console.log(JSON.stringify({ statuses, closed } satisfies FloodResult));
process.exit(0);

function keepSilent(): Promise<void> {
  return new Promise((resolve) => {
    open(resolve, () => undefined);
  });
}

/** At least one, also on a machine that has no time for it. */
async function sendRequests(): Promise<void> {
  do await sendUntilClosed();
  while (!isOver());
}

/** Sends requests over one connection, each batch after the responses to the one before. A request without a response is sent again. */
function sendUntilClosed(): Promise<void> {
  return new Promise((resolve) => {
    let text = '';
    let waiting = 0;
    const ended = (): void => {
      sent -= flood.pipeline === undefined ? 0 : waiting;
      resolve();
    };
    const sendBatch = (): void => {
      waiting = Math.max(1, Math.min(flood.pipeline ?? 1, flood.maxRequests - sent));
      socket.write(Array.from({ length: waiting }, nextRequest).join(''));
    };
    const socket = open(ended, (chunk) => {
      text += chunk;
      for (let end = text.indexOf(headEnd); end >= 0; end = text.indexOf(headEnd)) {
        const head = text.slice(0, end);
        text = text.slice(end + headEnd.length);
        waiting -= 1;
        const status = head.slice(9, 12);
        statuses[status] = (statuses[status] ?? 0) + 1;
        if (/connection: close/i.test(head)) socket.destroy();
      }
      if (socket.destroyed || waiting > 0) return;
      if (isOver()) socket.destroy();
      else sendBatch();
    });
    sendBatch();
  });
}

function open(ended: () => void, received: (chunk: string) => void): Socket {
  const socket = connect(flood.port, '127.0.0.1');
  sockets.add(socket);
  socket.setEncoding('latin1').on('data', received);
  socket.on('error', () => undefined);
  socket.on('end', () => (closed += 1));
  socket.on('close', () => {
    sockets.delete(socket);
    ended();
  });
  return socket;
}

/** HEAD, so that a response ends with its head. */
function nextRequest(): string {
  const value = flood.kind === 'silent' ? undefined : authorizations[flood.kind](sent);
  sent += 1;
  return `HEAD /objects/vision/none HTTP/1.1\r\nhost: kura\r\n${value === undefined ? '' : `authorization: ${value}\r\n`}\r\n`;
}
