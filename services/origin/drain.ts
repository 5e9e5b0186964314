/** Ends a server without breaking requests of shards, which keep their connections open. */
import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Listening } from '../shared/listen.ts';

const pollMs = 50;

/**
 * Until no connection is left, but at most `maxMs`, each response closes its connection. A connection that is idle ends by its keep-alive
 * time, which the shard knows, so no request meets a connection that ends.
 */
export function withDrain(server: Server, listening: Listening, { maxMs }: { maxMs: number }): Listening {
  const connections = promisify(server.getConnections.bind(server));
  return {
    address: listening.address,
    close: async () => {
      server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'));
      const deadline = performance.now() + maxMs;
      while (performance.now() < deadline && (await connections()) > 0) await delay(pollMs);
      await listening.close();
    },
  };
}
