/** The xDS protocol, state of the world, over a real connection. A nonce shows silence: it counts the responses of a stream. */
import test from 'ava';
import { waitFor } from '../support/wait.ts';
import { ack, connectClient, decode, endpointType, name, node, tableOf } from './support/client.ts';
import { startTestServer } from './support/server.ts';
import { candidate, candidates } from './support/shards.ts';

const cds = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';

test('the node comes from the first request and may be absent later', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, type_url: endpointType, resource_names: [name] });
  const first = await stream.next();
  t.is(first.type_url, endpointType);
  t.deepEqual(Object.keys(tableOf(decode(first.resources?.[0]))), ['kura-cache-0/shard-0', 'kura-cache-1/shard-0']);
  stream.send(ack(first));
  server.set(candidates(3));
  t.is((await stream.next()).nonce, '2');
  t.like(server.streams.describe(), [{ node: 'envoy-1', zone: 'a' }]);
});

test('an acknowledged version is not sent again, and the watch stays open', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: [name] });
  const first = await stream.next();
  stream.send(ack(first));
  await waitFor('the ack', async () => (await server.metric('kura_eds_acks_total')) === 1);
  server.set([...candidates(2)].reverse());
  stream.send(ack(first, { resource_names: [name, 'other'] }));
  await waitFor('the further name', () => JSON.stringify(server.streams.describe()).includes('other'));
  server.set(candidates(3));
  const second = await stream.next();
  t.is(second.nonce, '2');
  t.not(second.version_info, first.version_info);
  t.is(await server.metric('kura_eds_acks_total'), 1);
});

test('a request with a stale nonce is ignored, and one with the current nonce is handled', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: [name] });
  const first = await stream.next();
  server.set(candidates(3));
  const second = await stream.next();
  stream.send(ack(first, { resource_names: [] }));
  stream.send(ack(second));
  await waitFor('the ack', async () => (await server.metric('kura_eds_acks_total')) === 1);
  server.set(candidates(4));
  const third = await stream.next();
  t.deepEqual([third.nonce, third.version_info], ['3', server.publisher.snapshot('')?.version], 'the stale request did not unsubscribe');
  t.like(server.streams.describe(), [{ types: { [endpointType]: { acknowledged: second.version_info } } }]);
});

test('a NACK is counted, logged with the client’s reason and shown; its version is not sent again, the next change is', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: [name] });
  const first = await stream.next();
  stream.send(ack(first));
  await waitFor('the ack', async () => (await server.metric('kura_eds_acks_total')) === 1);
  server.set(candidates(3));
  const second = await stream.next();
  const refusal = { ...ack(second), version_info: first.version_info ?? '', error_detail: { code: 13, message: 'malformed endpoint' } };
  stream.send(refusal);
  await waitFor('the NACK', async () => (await server.metric('kura_eds_nacks_total')) === 1);
  t.true(server.log.some(({ level, reason, node: id }) => level === 50 && reason === 'malformed endpoint' && id === 'envoy-1'));
  const shown = { sent: second.version_info, acknowledged: first.version_info, refused: { reason: 'malformed endpoint' } };
  t.like(server.streams.describe(), [{ types: { [endpointType]: shown } }]);
  stream.send({ ...refusal, error_detail: null });
  server.publisher.publish();
  server.set(candidates(4));
  const third = await stream.next();
  t.is(third.nonce, '3', 'nothing was sent between');
  stream.send(ack(third));
  await waitFor('the ack', async () => (await server.metric('kura_eds_acks_total')) === 2);
  t.like(server.streams.describe(), [{ types: { [endpointType]: { refused: null } } }]);
});

test('a new name is sent although the version is the same, and fewer names cause no response', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: ['other'] });
  stream.send({ resource_names: ['other', name] });
  const first = await stream.next();
  t.is(first.nonce, '1', 'there was no response for the unknown name alone');
  stream.send(ack(first, { resource_names: [name] }));
  stream.send(ack(first, { resource_names: [] }));
  stream.send(ack(first, { resource_names: [name] }));
  const again = await stream.next();
  t.deepEqual([again.nonce, again.version_info], ['2', first.version_info]);
});

test('a response that waits for a slow reader is dropped when the client unsubscribes', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2_000) });
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: [name] });
  const first = await stream.next();
  stream.call.pause();
  let count = 2_000;
  // Until the buffers of the connection are full and a response stays in the server.
  await waitFor('the stream to be behind', () => {
    count += 1;
    server.set(candidates(count));
    return server.streams.behind === 1 && (server.streams.describe()[0] as { isWriting: boolean }).isWriting && count > 2_050;
  });
  const sent = (server.streams.describe()[0] as { types: Record<string, { sent: string }> }).types[endpointType]?.sent;
  t.not(sent, server.publisher.snapshot('')?.version, 'the newest waits');
  stream.send({ resource_names: [] });
  await waitFor(
    'the unsubscription',
    () => (server.streams.describe()[0] as { types: Record<string, { names: string[] }> }).types[endpointType]?.names.length === 0,
  );
  stream.call.resume();
  await waitFor('all that was sent', async () => server.streams.behind === 0);
  stream.send({ resource_names: [name] });
  const answers = [first];
  while (answers.at(-1)?.version_info !== server.publisher.snapshot('')?.version) answers.push(await stream.next());
  t.is(answers.at(-2)?.version_info, sent, 'the response after the one in flight is the requested one');
  t.is(Number(answers.at(-1)?.nonce), answers.length);
});

test('an empty list means everything until a request has names; `*` always means everything', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const client = connectClient(t, server.address);
  const legacy = client.eds();
  legacy.send({ node });
  const first = await legacy.next();
  legacy.send(ack(first, { resource_names: [] }));
  server.set(candidates(2));
  const second = await legacy.next();
  legacy.send(ack(second, { resource_names: ['other'] }));
  legacy.send(ack(second, { resource_names: [] }));
  server.set(candidates(3));
  legacy.send(ack(second, { resource_names: [name] }));
  const third = await legacy.next();
  t.deepEqual([third.nonce, third.version_info], ['3', server.publisher.snapshot('')?.version ?? '']);

  const explicit = client.eds();
  explicit.send({ node, resource_names: ['*'] });
  const all = await explicit.next();
  t.is(decode(all.resources?.[0]).cluster_name, name);
  explicit.send(ack(all, { resource_names: ['other'] }));
  await waitFor('leaving', () => JSON.stringify(server.streams.describe()[1]).includes('"names":["other"]'));
  server.set(candidates(4));
  explicit.send(ack(all, { resource_names: ['*'] }));
  t.is((await explicit.next()).nonce, '2', 'nothing came while `*` was left');
});

test('before the first full list, which may be empty, there is no response', async (t) => {
  const server = await startTestServer(t);
  const stream = connectClient(t, server.address).eds();
  stream.send({ node, resource_names: [name] });
  await waitFor('the stream', () => JSON.stringify(server.streams.describe()).includes(name));
  t.is(stream.waiting(), 0);
  server.set([]);
  const empty = await stream.next();
  t.is(empty.nonce, '1');
  t.deepEqual(decode(empty.resources?.[0]).endpoints ?? [], []);
  t.is(decode(empty.resources?.[0]).cluster_name, name);
  stream.send(ack(empty));
  server.set(candidates(1));
  t.deepEqual(tableOf(decode((await stream.next()).resources?.[0])), { 'kura-cache-0/shard-0': 'HEALTHY' });
});

test('a client that reconnects, also to another replica, gets only what it does not have', async (t) => {
  const one = await startTestServer(t, { initial: candidates(3) });
  const two = await startTestServer(t, { initial: [...candidates(3)].reverse() });
  const stream = connectClient(t, one.address).eds();
  stream.send({ node, resource_names: [name] });
  const held = await stream.next();
  t.is(one.publisher.snapshot('a')?.version, two.publisher.snapshot('a')?.version);

  const same = connectClient(t, two.address).eds();
  same.send({ node, resource_names: [name], version_info: held.version_info ?? '', response_nonce: '7' });
  await waitFor('the stream', () => JSON.stringify(two.streams.describe()).includes(`"acknowledged":"${held.version_info}"`));
  two.set(candidates(4));
  t.is((await same.next()).nonce, '1', 'the held version was not sent');

  const old = connectClient(t, two.address).eds();
  old.send({ node, resource_names: [name], version_info: held.version_info ?? '' });
  t.is((await old.next()).version_info, two.publisher.snapshot('a')?.version);
});

test('ADS needs a type in each request, and keeps nonces and versions by type', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const client = connectClient(t, server.address);
  const untyped = client.ads();
  untyped.send({ node, resource_names: [name] });
  t.is((await untyped.ended).code, 3);

  const stream = client.ads();
  stream.send({ node, type_url: cds });
  stream.send({ type_url: endpointType, resource_names: [name] });
  const first = await stream.next();
  t.is(first.type_url, endpointType, 'a type without resources stays silent');
  stream.send({ type_url: cds, response_nonce: first.nonce ?? '', version_info: first.version_info ?? '' });
  stream.send({ type_url: endpointType, ...ack(first) });
  await waitFor('the ack', async () => (await server.metric('kura_eds_acks_total')) === 1);
  t.like(server.streams.describe(), [{ types: { [cds]: { acknowledged: null }, [endpointType]: { acknowledged: first.version_info } } }]);

  const wrong = client.eds();
  wrong.send({ node, type_url: cds });
  t.is((await wrong.ended).code, 3);
});

test('cancelled and closed streams free their watch, a fault ends only its stream, and a shutdown ends all', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const clients = Array.from({ length: 10 }, () => connectClient(t, server.address));
  const streams = clients.flatMap((client) => Array.from({ length: 5 }, () => client.eds()));
  for (const stream of streams) {
    stream.send({ node, resource_names: [name] });
    await stream.next();
  }
  t.is(server.streams.size, 50);
  streams[0]?.call.cancel();
  streams[1]?.call.end();
  const broken = streams[2];
  broken?.send({ resource_names: Array.from({ length: 1_001 }, (_, index) => `name-${index}`) });
  t.is((await broken?.ended)?.code, 3);
  await waitFor('three streams to be gone', () => server.streams.size === 47);
  server.set([candidate(0), candidate(1)]);
  for (const stream of streams.slice(3)) t.is((await stream.next()).nonce, '2');
  t.is(server.propagation.length, 1);
  await server.server.close();
  for (const stream of streams.slice(3)) t.truthy((await stream.ended).code);
  t.is(server.streams.size, 0);
});

test('for a client that stops reading, the server holds one response, and the next has the newest resources', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2_000) });
  const stream = connectClient(t, server.address).eds();
  const other = connectClient(t, server.address).eds();
  for (const each of [stream, other]) {
    each.send({ node, resource_names: [name] });
    await each.next();
  }
  stream.call.pause();
  const pushes = async (): Promise<number> => server.metric('kura_eds_pushes_total');
  for (let count = 2_001; count < 2_100; count++) {
    server.set(candidates(count));
    await other.next();
  }
  t.true((await pushes()) < 99 + 2 + 50, `${await pushes()} answers were made`);
  t.is(server.streams.behind, 1);
  stream.call.resume();
  await waitFor('the newest', async () => (await stream.next()).version_info === server.publisher.snapshot('')?.version);
  await waitFor('nobody behind', () => server.streams.behind === 0);
});

test('a stream above the limit is rejected', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1), maxStreams: 1 });
  const client = connectClient(t, server.address);
  const first = client.eds();
  first.send({ node, resource_names: [name] });
  await first.next();
  const second = client.eds();
  second.send({ node, resource_names: [name] });
  t.is((await second.ended).code, 8);
});

test('streams of one address are limited, and a closed one makes room', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1), maxStreamsPerPeer: 2 });
  const clients = [1, 2, 3].map(() => connectClient(t, server.address).eds());
  for (const stream of clients.slice(0, 2)) {
    stream.send({ node, resource_names: [name] });
    await stream.next();
  }
  clients[2]?.send({ node, resource_names: [name] });
  t.is((await clients[2]?.ended)?.code, 8);
  clients[0]?.call.cancel();
  await waitFor('the closed stream', () => server.streams.size === 1);
  const fourth = connectClient(t, server.address).eds();
  fourth.send({ node, resource_names: [name] });
  t.truthy(await fourth.next());
});

test('a node id and a zone are cut at 256 bytes, and a long name or type ends the stream', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const client = connectClient(t, server.address);
  const stream = client.eds();
  stream.send({ node: { id: 'é'.repeat(400_000), locality: { zone: 'z'.repeat(300) } }, resource_names: [name] });
  await stream.next();
  const [view] = [...server.streams.views()];
  t.is(view?.node, 'é'.repeat(128));
  t.is(view?.zone, 'z'.repeat(256));
  const long = 'x'.repeat(1_025);
  for (const request of [{ resource_names: [long] }, { version_info: long }]) {
    const refused = client.eds();
    refused.send({ node, ...request });
    t.is((await refused.ended).code, 3);
  }
  const delta = client.deltaEds();
  delta.send({ node, initial_resource_versions: { [name]: long } });
  t.is((await delta.ended).code, 3);
  const ads = client.ads();
  ads.send({ node, type_url: long });
  t.is((await ads.ended).code, 3);
});
