import { createServer, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { writeWithin } from '../../../services/cache/http/send-body.ts';
import { listen } from '../../../services/shared/listen.ts';

/** The responses to `count` requests that arrive together on one connection. */
async function responses(t: ExecutionContext, count: number): Promise<{ seen: ServerResponse[]; client: Socket }> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const seen: ServerResponse[] = [];
  const server = createServer((_request, response) => {
    seen.push(response);
    if (seen.length === count) resolve();
  });
  const { address } = await listen(server, { host: '127.0.0.1', port: 0 });
  t.teardown(() => server.close());
  const [host, port] = address.split(':') as [string, string];
  const client = connect(Number(port), host, () => client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(count)));
  client.on('error', () => {});
  t.teardown(() => client.destroy());
  await promise;
  return { seen, client };
}

test('a write to a connection that is destroyed and not yet closed is rejected', async (t) => {
  const { seen } = await responses(t, 1);
  const response = seen[0] as ServerResponse;
  response.socket?.destroy();
  await t.throwsAsync(writeWithin(response, Buffer.alloc(10), 60_000), { code: 'READER_GONE' });
});

test('a write after the client has ended its side, before the connection is closed, is rejected', async (t) => {
  const { seen, client } = await responses(t, 1);
  const response = seen[0] as ServerResponse;
  const { promise, resolve } = Promise.withResolvers<Promise<void>>();
  response.socket?.on('end', () => resolve(writeWithin(response, Buffer.alloc(10), 60_000)));
  client.end();
  await t.throwsAsync(promise, { code: 'READER_GONE' });
});

test('a write that waits for an earlier response of its connection is rejected after the limit', async (t) => {
  const { seen } = await responses(t, 2);
  await t.throwsAsync(writeWithin(seen[1] as ServerResponse, Buffer.alloc(10), 50), { code: 'READER_GONE' });
});
