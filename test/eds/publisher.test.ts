/** The steps between a change and a response: debounce, placement by zone, logging of refusals, and the health service. */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials } from '@grpc/grpc-js';
import test from 'ava';
import { service as health } from 'grpc-health-check';
import { waitFor } from '../support/wait.ts';
import { connectClient, decode, name } from './support/client.ts';
import { startTestServer } from './support/server.ts';
import { candidate, candidates } from './support/shards.ts';

test('a burst of changes is published once', async (t) => {
  const current = candidates(2);
  const server = await startTestServer(t, { initial: current, debounceMs: 50, maxDebounceMs: 10_000 });
  let published = 0;
  server.publisher.onPublish(() => {
    published += 1;
  });
  for (let index = 2; index < 40; index++) {
    current.push(candidate(index));
    server.publisher.touch();
  }
  await waitFor('the push', () => published > 0);
  t.is(server.publisher.shards.length, 40);
  t.is(published, 1);
});

test('continuous changes are published at the debounce limit', async (t) => {
  const current = candidates(2);
  const server = await startTestServer(t, { initial: current, debounceMs: 5_000, maxDebounceMs: 100 });
  let published = 0;
  server.publisher.onPublish(() => {
    published += 1;
  });
  const startedAt = performance.now();
  for (let index = 2; published === 0; index++) {
    current.push(candidate(index));
    server.publisher.touch();
    await delay(5);
  }
  const tookMs = performance.now() - startedAt;
  t.true(tookMs >= 99 && tookMs < 2_000, `${tookMs} ms`);
});

test('with placement by zone each client prefers its zone, and clients of zones without shards share one resource', async (t) => {
  const server = await startTestServer(t, { initial: [candidate(0), candidate(1, { zone: 'b' })], placement: 'zone' });
  const client = connectClient(t, server.address);
  const priorities = async (zone: string): Promise<unknown> => {
    const stream = client.eds();
    stream.send({ node: { id: zone, locality: { zone } }, resource_names: [name] });
    const { endpoints = [] } = decode((await stream.next()).resources?.[0]);
    return endpoints.map(({ locality, priority }) => [locality?.zone, priority ?? 0]);
  };
  t.deepEqual(await priorities('a'), [
    ['a', 0],
    ['b', 1],
  ]);
  t.deepEqual(await priorities('b'), [
    ['a', 1],
    ['b', 0],
  ]);
  t.deepEqual(await priorities('c'), [
    ['a', 0],
    ['b', 0],
  ]);
  t.is(server.publisher.snapshot('c'), server.publisher.snapshot('d'));
});

test('an assignment is encoded once for all clients of a zone, when it is published', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  server.set(candidates(3));
  t.is(server.encodings(), 2);
  const client = connectClient(t, server.address);
  for (let index = 0; index < 3; index += 1) {
    const stream = client.eds();
    stream.send({ node: { id: `envoy-${index}` }, resource_names: [name] });
    await stream.next();
  }
  t.is(server.encodings(), 2);
  server.publisher.publish();
  t.is(server.encodings(), 3, 'a publication without a change encodes to learn its version');
  t.truthy(server.publisher.snapshot(''));
  t.is(server.encodings(), 3);
});

test('an endpoint that loses against another is logged once and counted', async (t) => {
  const twin = candidate(0, { address: '10.9.9.9', createdAt: 5_000_000, podUid: 'twin' });
  const server = await startTestServer(t, { initial: [candidate(0), twin] });
  server.set([candidate(0), twin, candidate(1)]);
  const lines = server.log.filter(({ msg }) => msg === 'endpoint refused');
  t.is(lines.length, 1);
  t.regex(String(lines[0]?.reason), /10\.9\.9\.9:7000.*hash_key/);
  t.is(await server.metric('kura_eds_refusals_total'), 1);
  t.is(await server.metric('kura_eds_endpoints_refused'), 1);
  t.is(server.publisher.shards.length, 2);
});

test('the health service equals readiness, and reflection is off', async (t) => {
  const server = await startTestServer(t);
  const client = new Client(server.address, credentials.createInsecure());
  t.teardown(() => client.close());
  const check = (path: string): Promise<{ status?: string; code?: number }> =>
    new Promise((resolve) => {
      const method = health.Check as { requestSerialize(value: object): Buffer; responseDeserialize(bytes: Buffer): { status: string } };
      client.makeUnaryRequest<object, { status: string }>(
        path,
        method.requestSerialize,
        method.responseDeserialize,
        { service: '' },
        (error, answer) => resolve(error === null ? { status: String(answer?.status) } : { code: error.code }),
      );
    });
  const before = await check('/grpc.health.v1.Health/Check');
  server.server.setServing(true);
  const after = await check('/grpc.health.v1.Health/Check');
  t.deepEqual([before.status, after.status], ['NOT_SERVING', 'SERVING']);
  t.is((await check('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo')).code, 12);
});
