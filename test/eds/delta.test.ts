/** The xDS protocol, delta, over a real connection. */
import test from 'ava';
import { waitFor } from '../support/wait.ts';
import { connectClient, decode, endpointType, name, node, tableOf } from './support/client.ts';
import { startTestServer } from './support/server.ts';
import { candidates } from './support/shards.ts';

test('a first request without names subscribes to everything, until `*` is unsubscribed', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node });
  const first = await stream.next();
  t.deepEqual(
    first.resources?.map((resource) => resource.name),
    [name],
  );
  stream.send({ response_nonce: first.nonce ?? '', resource_names_unsubscribe: ['*'] });
  stream.send({});
  await waitFor('the unsubscription', () => JSON.stringify(server.streams.describe()).includes('"names":[]'));
  server.set(candidates(2));
  stream.send({ resource_names_subscribe: [name] });
  t.is((await stream.next()).nonce, '2', 'an empty request did not bring `*` back');
});

test('a resource that `*` covers is sent again when its own name is unsubscribed', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: ['*', name] });
  await stream.next();
  stream.send({ resource_names_unsubscribe: [name] });
  const again = await stream.next();
  t.deepEqual([again.nonce, again.resources?.[0]?.name], ['2', name]);
});

test('an unknown name is reported as removed, once', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: ['other'] });
  const first = await stream.next();
  t.deepEqual([first.resources ?? [], first.removed_resources], [[], ['other']]);
  server.set(candidates(2));
  stream.send({ response_nonce: first.nonce ?? '', resource_names_subscribe: [name] });
  const second = await stream.next();
  t.deepEqual([second.nonce, second.removed_resources ?? [], second.resources?.[0]?.name], ['2', [], name]);
});

test('subscribing to a held resource sends it again', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name] });
  const first = await stream.next();
  stream.send({ response_nonce: first.nonce ?? '' });
  stream.send({ resource_names_subscribe: [name] });
  const second = await stream.next();
  t.deepEqual(second.resources?.[0]?.version, first.resources?.[0]?.version);
});

test('a stale nonce acknowledges nothing, but its changes of the subscription apply', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name] });
  const first = await stream.next();
  stream.send({ response_nonce: 'from another time', resource_names_subscribe: ['other'], resource_names_unsubscribe: [name] });
  const second = await stream.next();
  t.deepEqual(second.removed_resources, ['other']);
  t.is(await server.metric('kura_eds_acks_total'), 0);
  server.set(candidates(2));
  stream.send({ response_nonce: first.nonce ?? '', resource_names_subscribe: [name] });
  t.is((await stream.next()).nonce, '3');
});

test('resources that the client holds are not sent again, also by another replica', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const version = server.publisher.snapshot('')?.version ?? '';
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name], initial_resource_versions: { [name]: version } });
  await waitFor('the stream', () => JSON.stringify(server.streams.describe()).includes(name));
  server.set(candidates(2));
  const first = await stream.next();
  t.is(first.nonce, '1');
  t.is(Object.keys(tableOf(decode(first.resources?.[0]?.resource))).length, 2);

  const old = connectClient(t, server.address).deltaEds();
  old.send({ node, resource_names_subscribe: [name, 'gone'], initial_resource_versions: { [name]: version, gone: 'x' } });
  const answer = await old.next();
  t.deepEqual([answer.resources?.[0]?.name, answer.removed_resources], [name, ['gone']]);
});

test('unsubscribing an unknown name is ignored', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name] });
  await stream.next();
  stream.send({ resource_names_unsubscribe: ['never'] });
  server.set(candidates(2));
  t.is((await stream.next()).nonce, '2');
});

test('each change is sent once, and a rejected one is not sent again', async (t) => {
  const server = await startTestServer(t, { initial: candidates(3) });
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name] });
  const first = await stream.next();
  stream.send({ response_nonce: first.nonce ?? '' });
  const changes = [
    candidates(4),
    candidates(2),
    candidates(2).map((shard) => ({ ...shard, address: `10.9.0.${shard.port % 7}${shard.createdAt % 9}` })),
    [],
  ];
  let nonce = 1;
  for (const change of changes) {
    server.set(change);
    const answer = await stream.next();
    nonce += 1;
    t.is(answer.nonce, String(nonce));
    t.is(answer.system_version_info, answer.resources?.[0]?.version);
    t.is(Object.keys(tableOf(decode(answer.resources?.[0]?.resource))).length, change.length);
    stream.send({ response_nonce: answer.nonce ?? '', error_detail: { message: 'no' } });
    await waitFor('the NACK', async () => (await server.metric('kura_eds_nacks_total')) === nonce - 1);
  }
  server.publisher.publish();
  server.set(candidates(1));
  t.is((await stream.next()).nonce, String(nonce + 1));
});

test('a delta stream that reconnects without versions gets everything', async (t) => {
  const server = await startTestServer(t, { initial: candidates(2) });
  for (const _ of [1, 2]) {
    const stream = connectClient(t, server.address).deltaEds();
    stream.send({ node, resource_names_subscribe: [name] });
    t.is((await stream.next()).resources?.length, 1);
    stream.call.cancel();
  }
});

test('delta over ADS keeps types separate and needs the type', async (t) => {
  const server = await startTestServer(t, { initial: candidates(1) });
  const client = connectClient(t, server.address);
  const untyped = client.deltaAds();
  untyped.send({ node });
  t.is((await untyped.ended).code, 3);
  const stream = client.deltaAds();
  const cds = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';
  stream.send({ node, type_url: cds });
  const empty = await stream.next();
  t.deepEqual([empty.type_url, empty.resources ?? [], empty.nonce], [cds, [], '1']);
  stream.send({ type_url: endpointType, resource_names_subscribe: [name] });
  const endpoints = await stream.next();
  t.deepEqual([endpoints.type_url, endpoints.nonce], [endpointType, '1']);
});

test('before the first full list there is no response, not even "removed"', async (t) => {
  const server = await startTestServer(t);
  const stream = connectClient(t, server.address).deltaEds();
  stream.send({ node, resource_names_subscribe: [name, 'other'] });
  await waitFor('the stream', () => JSON.stringify(server.streams.describe()).includes('other'));
  t.is(stream.waiting(), 0);
  server.set(candidates(1));
  const first = await stream.next();
  t.deepEqual([first.nonce, first.resources?.[0]?.name, first.removed_resources], ['1', name, ['other']]);
});
