/**
 * Opens 10,000 connections to the URL in the first argument and reads on 1,000, for shard.ts. Prints requests, failures and the
 * slowest.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const target = new URL(process.argv[2] as string);
const seconds = 10;
const request = `GET ${target.pathname} HTTP/1.1\r\nHost: bench\r\n\r\n`;
let requests = 0;
let failures = 0;
let slowestMs = 0;
const sockets: Socket[] = [];

for (let opened = 0; opened < 10_000; opened += 200) {
  const some = Array.from({ length: 200 }, () => connect(Number(target.port), target.hostname));
  await Promise.all(some.map((socket) => once(socket, 'connect')));
  sockets.push(...some);
}
const end = performance.now() + seconds * 1000;
await Promise.all(sockets.slice(0, 1_000).map((socket) => read(socket)));
const open = sockets.filter((socket) => !socket.destroyed).length;
console.log(JSON.stringify({ requests, failures, slowestMs, open }));
process.exit(0);

/** Reads the object repeatedly on one connection. */
async function read(socket: Socket): Promise<void> {
  let left = -1;
  let done = Promise.withResolvers<boolean>();
  socket.on('data', (bytes: Buffer) => {
    if (left === -1) {
      const head = bytes.toString('latin1', 0, 1024);
      if (!head.startsWith('HTTP/1.1 200 ')) return done.resolve(false);
      left = Number(/content-length: (\d+)/.exec(head)?.[1]) + head.indexOf('\r\n\r\n') + 4;
    }
    left -= bytes.length;
    if (left <= 0) done.resolve(left === 0);
  });
  socket.on('close', () => done.resolve(false));
  while (performance.now() < end) {
    const startedMs = performance.now();
    left = -1;
    done = Promise.withResolvers();
    socket.write(request);
    const isRight = await done.promise;
    requests += 1;
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
    if (!isRight) {
      failures += 1;
      return;
    }
  }
}
