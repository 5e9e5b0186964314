/** The object port: plain connections, and Node's HTTP server behind them for everything unusual. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { ListenAddress } from '../../shared/environment.ts';
import { formatAddress, type Listening } from '../../shared/listen.ts';
import { createNodeServer, headTimeoutMs } from './node-server.ts';
import { PlainConnection } from './plain-connection.ts';
import { ResponseHeads } from './response-heads.ts';
import type { ObjectService } from './service.ts';

export interface ObjectServer extends Listening {
  readonly connections: () => number;
  /** Stops accepting and closes what is idle; resolves when no connection is left or the time is over, then cuts the rest. */
  drain(graceMs: number): Promise<void>;
}

export interface ObjectServerOptions {
  readonly service: ObjectService;
  readonly address: ListenAddress;
  readonly keepAliveMs: number;
  /** `plain`: our own parser for plain requests, Node's for all others. `node`: Node's for all, which is what the bench compares with. */
  readonly parser: 'plain' | 'node';
}

/** Connections beyond this wait in the kernel; Envoy's pools need hundreds. */
const maxConnections = 50_000;

/** Rejects when the address cannot be had. */
export async function startObjectServer({ service, address, keepAliveMs, parser }: ObjectServerOptions): Promise<ObjectServer> {
  const heads = new ResponseHeads(service.name);
  heads.setDate(new Date());
  const http = createNodeServer(service, { keepsAlive: parser === 'node', keepAliveMs });
  // Starts its watch over slow heads, which otherwise begins with listening; connections are given to it below.
  http.emit('listening');
  const plain = new Map<Socket, PlainConnection>();
  const sockets = new Set<Socket>();
  const handOver = (socket: Socket, bytes: Buffer) => {
    plain.delete(socket);
    // Paused, the bytes stay in the stream's buffer until Node's parser listens.
    socket.pause();
    socket.unshift(bytes);
    http.emit('connection', socket);
    socket.resume();
  };
  // Half-open as Node's own server has it: a client may end its side and still read the answer.
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    if (parser === 'node') http.emit('connection', socket);
    else plain.set(socket, new PlainConnection(socket, { service, heads, keepAliveMs, headTimeoutMs, handOver }));
    socket.once('close', () => {
      sockets.delete(socket);
      plain.delete(socket);
    });
  });
  server.maxConnections = maxConnections;
  server.listen({ ...address, backlog: 4096 });
  await once(server, 'listening');
  // One look over all connections costs less than a timer for each of them.
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
