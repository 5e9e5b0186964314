import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ListenAddress } from './environment.ts';

/** A server that accepts connections. */
export interface Listening {
  /** `host:port` with the port that was really bound. */
  readonly address: string;
  /** Closes the server with every connection it has. */
  close(): Promise<void>;
}

/** Binds an HTTP server; rejects with the system's error when the address cannot be had. */
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

/** `host:port`, an IPv6 host in brackets. */
export function formatAddress({ host, port }: ListenAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
