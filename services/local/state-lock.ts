import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Takes a state directory for this process: a second system on it would fight over its files. The lock is an abstract Unix socket, which vanishes with its
 * owner however that ends. Rejects when another process has it.
 */
export async function lockState(directory: string): Promise<{ release(): void }> {
  const server = createServer((socket) => socket.destroy());
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 32);
  server.listen(`\0kura-local-${name}`);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new Error(`another kura runs on ${directory}: stop it first, or choose another folder with --state`, { cause: error });
  }
  server.unref();
  return { release: () => server.close() };
}
