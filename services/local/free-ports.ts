/** Free ports on the loopback interface. */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** Returns different ports that are currently free. Envoy needs them, because its bootstrap contains port numbers. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

/** Rejects if the port is in use. Envoy reports that only in its log. */
export async function requireFree(port: number): Promise<void> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new Error(`port ${port} is in use: choose another port with --port`, { cause: error });
  }
  await once(server.close(), 'close');
}
