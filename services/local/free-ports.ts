/** Free ports on the loopback interface. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Kernels choose ports for connections and for port 0 above this range (ip_local_port_range begins at 32,768). So no other program takes
 * a port by chance before Envoy binds it. Envoy would share it without an error.
 */
const minPort = 20_000;
const maxPort = 32_000;
const maxTries = 1_000;
/** Not given twice by this process. */
const given = new Set<number>();

/** Returns different ports that are currently free. Envoy needs them, because its bootstrap contains port numbers. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries += 1) {
    if (tries === maxTries) throw new Error(`no free port found from ${minPort} to ${maxPort}`);
    const port = randomInt(minPort, maxPort + 1);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

/** Rejects if the port is in use. Envoy reports that only in its log. */
export async function requireFree(port: number): Promise<void> {
  if (!(await isFree(port))) throw new Error(`port ${port} is in use: choose another port with --port`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  await once(server.close(), 'close');
  return true;
}
