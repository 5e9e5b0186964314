import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ListenAddress } from './environment.ts';

/** A server that accepts connections. */
export interface Listening {
  /** `host:port` with the port that was bound. */
  readonly address: string;
  /** Closes the server and all its connections. */
  close(): Promise<void>;
}

/** Binds an HTTP server. Rejects with the system's error when the address is not available. */
export async function listen(server: Server, { host, port }: ListenAddress): Promise<Listening> {
  server.listen({ host, port });
  await once(server, 'listening');
  const bound = server.address() as AddressInfo;
  return {
    address: formatAddress({ host: bound.address, port: bound.port }),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** `host:port`, with an IPv6 host in brackets. */
export function formatAddress({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
