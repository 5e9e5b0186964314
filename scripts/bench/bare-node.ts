/**
 * A bare Node server: the baseline for what Node itself costs, started by servers.ts. It reads a file and writes head and body in one turn,
 * and it does nothing else: no checks, no limits, no timeouts. It uses raw sockets, because node:http needs more CPU. `GET` only.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import path from 'node:path';

const root = process.argv[2] as string;
/** A larger body takes several turns: one for each write. */
const maxWriteBytes = 2 ** 20;
const headRoomBytes = 256;

interface OpenFile {
  readonly fd: number;
  readonly length: number;
  readonly head: Buffer;
}

const files = new Map<string, OpenFile>();
const spare: Buffer[] = [];
const missing = Buffer.from('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');

const server = createServer({ noDelay: true }, (socket) => {
  let pending = '';
  socket.on('error', () => {});
  socket.on('data', (bytes: Buffer) => {
    pending += bytes.toString('latin1');
    // The clients of the benches do not pipeline.
    if (!pending.endsWith('\r\n\r\n')) return;
    const target = pending.slice(4, pending.indexOf(' ', 4));
    pending = '';
    const file = open(target);
    if (file === undefined) socket.write(missing);
    else send(socket, file, 0);
  });
});
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

/** Writes from `from` on. The next write follows when the system has this one. */
function send(socket: Socket, file: OpenFile, from: number): void {
  const buffer = spare.pop() ?? Buffer.allocUnsafeSlow(headRoomBytes + maxWriteBytes);
  const to = Math.min(file.length, from + maxWriteBytes);
  const offset = from === 0 ? file.head.copy(buffer) : 0;
  readSync(file.fd, buffer, offset, to - from, from);
  socket.write(buffer.subarray(0, offset + to - from), () => {
    spare.push(buffer);
    if (to < file.length && !socket.destroyed) send(socket, file, to);
  });
}

/** Files stay open: the benches write them before their first request. */
function open(target: string): OpenFile | undefined {
  const known = files.get(target);
  if (known !== undefined) return known;
  try {
    const fd = openSync(path.join(root, target), 'r');
    const stat = fstatSync(fd);
    if (!stat.isFile()) {
      closeSync(fd);
      return undefined;
    }
    const head = Buffer.from(`HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: ${stat.size}\r\n\r\n`);
    const file = { fd, length: stat.size, head };
    files.set(target, file);
    return file;
  } catch {
    return undefined;
  }
}
