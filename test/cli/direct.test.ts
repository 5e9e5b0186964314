/** `--direct`: redirects to shards, and the fallback to the server if a shard is unreachable. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import test from 'ava';
import { startObjectServer } from '../support/object-server.ts';
import { startKura } from './support/kura.ts';

const body = 'x'.repeat(300_000);

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test.serial('a body comes from the target of the redirect, and the token is not sent there', async (t) => {
  const { server, run } = await startKura(t);
  const shard = await startObjectServer();
  t.teardown(() => shard.close());
  shard.objects.set('vision/a', Buffer.from(body));
  server.intercept = (request, response) => {
    if (!request.url?.startsWith('/direct/')) return false;
    response.writeHead(307, { location: `${shard.url}/objects/vision/a`, 'content-length': 0 }).end();
    return true;
  };
  t.like(await run(['get', 'vision/a', '--direct']), { status: 0, stdout: body });
  t.deepEqual(shard.requests, [{ method: 'GET', key: 'vision/a', authorization: undefined }]);
  t.is(server.requests.length, 1);
});

test.serial('if the shard is unreachable or rejects the ticket, the request goes to the server', async (t) => {
  const { server, run } = await startKura(t);
  const shard = await startObjectServer();
  t.teardown(() => shard.close());
  server.objects.set('vision/a', Buffer.from(body));
  const unreachable = `http://127.0.0.1:${await closedPort()}`;
  let status = 0;
  shard.intercept = (_request, response) => {
    response.writeHead(status, { 'content-length': 0 }).end();
    return true;
  };
  for (const [origin, answered] of [
    [unreachable, 0],
    [shard.url, 403],
    [shard.url, 404],
  ] as const) {
    status = answered;
    server.intercept = (request, response) => {
      if (!request.url?.startsWith('/direct/')) return false;
      response.writeHead(307, { location: `${origin}/objects/vision/a`, 'content-length': 0 }).end();
      return true;
    };
    t.like(await run(['get', 'vision/a', '--direct']), { status: 0, stdout: body }, `${origin} ${answered}`);
  }
  t.is(shard.requests.length, 2);
});

test.serial('a server without /direct/ does not redirect and accepts uploads', async (t) => {
  const { server, run } = await startKura(t);
  t.is((await run(['put', '-', 'vision/in', '--direct'], { stdin: body })).status, 0);
  // The fake server removes as many characters from the path as /objects/ has.
  t.is([...server.objects.values()][0]?.toString(), body);
});
