/** A gRPC server on a TCP address or a Unix socket. */
import { chmod, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import type { Listening } from './listen.ts';

interface GrpcServerOptions {
  /** `host:port`, or `unix:/path/of/socket`. */
  readonly target: string;
  readonly register: (server: Server) => void;
  readonly credentials?: ServerCredentials;
  readonly options?: ServerOptions;
  /** Maximum time for calls in flight when the server closes. */
  readonly graceMs: number;
}

/** Starts a gRPC server. Rejects when the address is not available or another process serves the socket. */
export async function startGrpcServer({ target, register, credentials, options, graceMs }: GrpcServerOptions): Promise<Listening> {
  const socket = target.startsWith('unix:') ? target.slice('unix:'.length) : undefined;
  if (socket !== undefined) await removeStaleSocket(socket);
  // kura does not use channelz, which costs a twentieth of a call (measured with bench:authz).
  const server = new Server({ 'grpc.enable_channelz': 0, ...options });
  register(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(target, credentials ?? ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  // Envoy runs as another user of the same group.
  if (socket !== undefined) await chmod(socket, 0o660);
  return {
    address: socket ?? target.replace(/\d+$/, String(port)),
    close: () =>
      new Promise<void>((resolve) => {
        const timer = setTimeout(() => server.forceShutdown(), graceMs);
        server.tryShutdown(() => {
          clearTimeout(timer);
          resolve();
        });
      }),
  };
}

/** A killed process leaves its socket behind, and the next bind would fail. A socket that a process still serves stays. */
async function removeStaleSocket(socket: string): Promise<void> {
  const isServed = await new Promise<boolean>((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
  if (isServed) throw new Error(`another process listens on ${socket}`);
  await rm(socket, { force: true });
}
