/**
 * A TCP link to a port of loopback for through.ts. What a client sends arrives after a delay, so that each request takes as much longer.
 * Sends its port to the parent process, and the number of requests so far for each message of the parent.
 */
import { type AddressInfo, connect, createServer } from 'node:net';

const [port, delayMs] = process.argv.slice(2).map(Number) as [number, number];
let requests = 0;

const server = createServer({ noDelay: true }, (client) => {
  const origin = connect({ port, host: '127.0.0.1', noDelay: true });
  client.on('data', (chunk: Buffer) => {
    // A client of the bench sends one request at a time on a connection, in one piece.
    if (/^(GET|HEAD) /.test(chunk.toString('latin1', 0, 5))) requests += 1;
    setTimeout(() => origin.write(chunk), delayMs);
  });
  origin.pipe(client);
  for (const [one, other] of [
    [client, origin],
    [origin, client],
  ] as const)
    one.on('close', () => other.destroy()).on('error', () => other.destroy());
});
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
process.on('message', () => process.send?.({ requests }));
