/** The object port. Plain connections answer plain requests, and Node's HTTP server answers all others. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { ListenAddress } from '../../shared/environment.ts';
import { formatAddress, type Listening } from '../../shared/listen.ts';
import { KnownFields } from './known-fields.ts';
import { createNodeServer, headTimeoutMs } from './node-server.ts';
import { PlainConnection } from './plain-connection.ts';
import { ResponseHeads } from './response-heads.ts';
import type { ObjectService } from './service.ts';

export interface ObjectServer extends Listening {
  readonly connections: () => number;
  /** Stops accepting, closes idle connections, and destroys the rest after `graceMs`. Resolves when no connection is left. */
  drain(graceMs: number): Promise<void>;
}

export interface ObjectServerOptions {
  readonly service: ObjectService;
  readonly address: ListenAddress;
  readonly keepAliveMs: number;
  /** The server closes further connections at once. */
  readonly maxConnections: number;
  /** `plain`: plain-head.ts for plain requests, Node's parser for others. `node`: Node's parser for all, as a benchmark baseline. */
  readonly parser: 'plain' | 'node';
}

/** Rejects if it cannot listen on the address. */
export async function startObjectServer({
  service,
  address,
  keepAliveMs,
  maxConnections,
  parser,
}: ObjectServerOptions): Promise<ObjectServer> {
  const heads = new ResponseHeads(service.name);
  heads.setDate(new Date());
  const known = new KnownFields();
  const http = createNodeServer(service, { keepsAlive: parser === 'node', keepAliveMs });
  // Node starts its check for slow heads at this event. The server never listens itself.
  http.emit('listening');
  const plain = new Map<Socket, PlainConnection>();
  const sockets = new Set<Socket>();
  const handOver = (socket: Socket, bytes: Buffer) => {
    plain.delete(socket);
    // While the socket is paused, the bytes stay in its buffer until Node's parser listens.
    socket.pause();
    socket.unshift(bytes);
    http.emit('connection', socket);
    socket.resume();
  };
  // Half-open as in Node's HTTP server: a client may end its side and still read the response.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    if (parser === 'node') http.emit('connection', socket);
    else plain.set(socket, new PlainConnection(socket, { service, heads, known, keepAliveMs, headTimeoutMs, handOver }));
    socket.once('close', () => {
      sockets.delete(socket);
      plain.delete(socket);
    });
  });
  server.maxConnections = maxConnections;
  server.listen({ ...address, backlog: 4096 });
  await once(server, 'listening');
  // One check of all connections costs less than a timer for each of them.
  const everyMs = Math.max(20, Math.min(500, service.readerTimeoutMs / 4, service.writerTimeoutMs / 4, keepAliveMs / 4));
  const watch = setInterval(() => {
    heads.setDate(new Date());
    const now = performance.now();
    for (const connection of plain.values()) if (connection.deadline < now) connection.cut();
  }, everyMs);
  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  const bound = server.address() as AddressInfo;
  const drain = async (graceMs: number) => {
    const closed = once(server, 'close');
    server.close();
    for (const connection of plain.values()) if (connection.waitsFor === 'request') connection.socket.end();
    http.closeIdleConnections();
    const timer = setTimeout(cutAll, graceMs);
    await closed;
    clearTimeout(timer);
    clearInterval(watch);
    http.close();
  };
  return {
    address: formatAddress({ host: bound.address, port: bound.port }),
    connections: () => sockets.size,
    drain,
    close: () => drain(0),
  };
}
