import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'ava';
import { RequestBody } from '../../../services/cache/http/request-body.ts';
import { startTestShard } from '../support/shard.ts';

function bodyOf(lengthBytes: number): RequestBody {
  return new RequestBody({ lengthBytes, onPressure: () => {}, onHold: () => {}, isExhausted: () => false });
}

test('the memory of a piece is free once the next piece is read', async (t) => {
  const body = bodyOf(96 * 1024);
  const pieces = [Buffer.allocUnsafeSlow(64 * 1024), Buffer.allocUnsafeSlow(32 * 1024)];
  const waiting = body.next();
  for (const piece of pieces) body.push(piece);
  t.is((await waiting).value, pieces[0]);
  t.is(pieces[0]?.length, 64 * 1024);
  t.is((await body.next()).value, pieces[1]);
  t.is(pieces[0]?.length, 0);
  t.true((await body.next()).done);
  t.is(pieces[1]?.length, 0);
});

test('the bytes after a body stay valid', async (t) => {
  const body = bodyOf(64 * 1024);
  const sent = Buffer.concat([Buffer.alloc(64 * 1024), Buffer.from('GET /objects/next HTTP/1.1')]);
  const rest = body.push(sent);
  t.is((await body.next()).value?.length, 64 * 1024);
  t.true((await body.next()).done);
  t.is(rest?.toString(), 'GET /objects/next HTTP/1.1');
});

test('pipelined uploads of many sizes keep their bytes', async (t) => {
  const shard = await startTestShard(t);
  const [host, port] = shard.address.split(':') as [string, string];
  const socket = connect(Number(port), host);
  t.teardown(() => socket.destroy());
  await once(socket, 'connect');
  const bodies = [70_000, 1, 16_384, 200_000, 0, 65_536, 300_000, 5_000, 700_000, 40_000].map((bytes) => randomBytes(bytes));
  const requests = bodies.flatMap((body, at) => [
    Buffer.from(`PUT /objects/piece-${at} HTTP/1.1\r\nhost: shard\r\ncontent-length: ${body.length}\r\n\r\n`),
    body,
  ]);
  let received = '';
  socket.setEncoding('latin1').on('data', (text: string) => {
    received += text;
    if (received.split('HTTP/1.1 201').length > bodies.length) socket.end();
  });
  // The pieces of the shard begin and end anywhere in these requests.
  const all = Buffer.concat(requests);
  for (let at = 0; at < all.length; at += 30_011) socket.write(all.subarray(at, at + 30_011));
  await once(socket, 'end');
  for (const [at, body] of bodies.entries()) {
    const response = await fetch(`${shard.url}/objects/piece-${at}`);
    t.true(Buffer.from(await response.arrayBuffer()).equals(body), `object ${at}`);
  }
});
