/**
 * `npm run bench:eds [-- moves | fan-out | envoy]`: measures eds with 1,000 shards. Prints which keys move, the time until a change
 * reaches the last of 500 streams, the cost of a rolling restart, and the cost of 1,000 endpoints in the real Envoy.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import type { V1Endpoint } from '@kubernetes/client-node';
import { loadEnvoyProtos } from '../../proto/load.ts';
import { type Envoy, startEnvoy } from '../../test/eds/support/envoy.ts';
import { waitFor } from '../../test/support/wait.ts';
import { type Cluster, readProcess, startCluster } from './eds-cluster.ts';
import { buildTable, loadHash, shardOf, simulateMoves, startEchoServer } from './eds-maglev.ts';

const shardCount = 1_000;
const streamCount = 500;
const protos = loadEnvoyProtos().envoy;

const wanted = process.argv.slice(2);
const runs: Readonly<Record<string, () => Promise<void>>> = { moves: printMoves, 'fan-out': benchFanOut, envoy: benchEnvoy };
console.log(`${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}\n`);
for (const [name, run] of Object.entries(runs)) if (wanted.length === 0 || wanted.includes(name)) await run();
process.exit(0);

/** Compares the simulation with the real Envoy, before and after shards get new addresses, then simulates. */
async function printMoves(): Promise<void> {
  const hash = await loadHash();
  const echo = await startEchoServer();
  const hosts = 100;
  const cluster = await startCluster(hosts, (index) => `127.0.2.${index + 1}`, echo.port);
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-bench-'));
  const listenPort = 20_000 + (process.pid % 20_000);
  const envoy = await startEnvoy({ folder, eds: [cluster.eds.listening.grpc as string], follow: ['eds'], listenPort });
  const names = Array.from({ length: hosts }, (_, index) => hashKey(index)).sort();
  const table = buildTable(hash, names);
  const keys = Array.from({ length: 2_000 }, (_, index) => `/objects/vision/${index}`);
  const wrong = async (): Promise<number> => {
    let count = 0;
    const keyOf = new Map(cluster.endpoints.map((endpoint, index) => [endpoint.addresses[0], hashKey(index)]));
    for (const key of keys) if (keyOf.get(await fetchText(listenPort, key)) !== shardOf(hash, table, names, key)) count += 1;
    return count;
  };
  try {
    await waitFor('the hosts', async () => (await envoy.stat('cluster.eds.membership_total')) === hosts);
    console.log(`real Envoy, ${hosts} shards: ${await wrong()} of ${keys.length} keys elsewhere than simulated`);
    for (let index = 0; index < hosts; index += 7) (cluster.endpoints[index] as V1Endpoint).addresses = [`127.0.3.${index + 1}`];
    const updates = await envoy.stat('cluster.eds.update_success');
    await cluster.put(cluster.endpoints.map((_, index) => index));
    await waitFor('the new addresses', async () => (await envoy.stat('cluster.eds.update_success')) > updates);
    console.log(`after ${Math.ceil(hosts / 7)} of them returned with other addresses: ${await wrong()}\n`);
  } finally {
    await envoy.stop();
    await cluster.close();
    echo.close();
    await rm(folder, { recursive: true });
  }
  console.log('| shards | change | keys moved | least possible | fullest shard over mean |\n| --- | --- | --- | --- | --- |');
  const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
  for (const { shards, change, moved, least, spread } of simulateMoves(hash)) {
    console.log(`| ${shards} | ${change} | ${percent(moved)} | ${percent(least)} | ${spread.toFixed(4)} |`);
  }
  console.log('');
}

async function benchFanOut(): Promise<void> {
  const cluster = await startCluster(shardCount, addressOf, 7_000);
  const clients = await openStreams(cluster.eds.listening.grpc as string);
  const { endpoints, eds } = cluster;
  try {
    await waitFor('the first answers', () => clients.every((client) => client.answers > 0), { withinMs: 60_000 });
    const idle = await readProcess(eds.pid);
    const delays: number[] = [];
    const rounds = 10;
    for (let round = 0; round < rounds; round++) {
      const before = clients.map(({ answers }) => answers);
      (endpoints[(round * 97) % shardCount] as V1Endpoint).addresses = [`10.200.0.${round}`];
      const startedAt = performance.now();
      await cluster.put([(round * 97) % shardCount]);
      await waitFor('the last stream', () => clients.every(({ answers }, index) => answers > (before[index] as number)), { everyMs: 5 });
      delays.push(performance.now() - startedAt);
    }
    const after = await readProcess(eds.pid);
    delays.sort((a, b) => a - b);
    console.log(`one shard's change, ${shardCount} shards, ${streamCount} streams on ${streamCount} connections, eds on one core:`);
    console.log(
      `to the last stream: median ${Math.round(delays[rounds >> 1] as number)} ms, worst of ${rounds} ${Math.round(delays.at(-1) as number)} ms`,
    );
    console.log(
      `eds: ${Math.round((after.cpuMs - idle.cpuMs) / rounds)} ms of CPU a change, ${after.rssMiB} MiB (peak ${after.peakMiB})\n`,
    );
    await rollingRestart(cluster, clients);
  } finally {
    for (const { call, client } of clients) {
      call.cancel();
      client.close();
    }
    await cluster.close();
  }
}

/** Each shard drains, disappears and returns with another address, ten shards per step. */
async function rollingRestart({ endpoints, put, eds }: Cluster, clients: readonly BenchStream[]): Promise<void> {
  const before = await readProcess(eds.pid);
  const answers = clients.reduce((sum, client) => sum + client.answers, 0);
  const bytes = clients.reduce((sum, client) => sum + client.bytes, 0);
  const startedAt = performance.now();
  const step = 10;
  for (let first = 0; first < shardCount; first += step) {
    const some = Array.from({ length: step }, (_, index) => endpoints[first + index] as V1Endpoint);
    for (const endpoint of some) endpoint.conditions = { ready: false, serving: true, terminating: true };
    await put([first]);
    for (const endpoint of some) endpoint.conditions = { ready: false, serving: false, terminating: true };
    await put([first]);
    for (const [index, endpoint] of some.entries()) {
      endpoint.conditions = { ready: true, serving: true, terminating: false };
      endpoint.addresses = [`10.${100 + (first >> 8)}.${first & 255}.${index}`];
    }
    await put([first]);
  }
  const last = performance.now();
  const lastAddress = endpoints.at(-1)?.addresses[0] as string;
  await waitFor('the last stream to have the last address', () => clients.every(({ newest }) => newest?.includes(lastAddress)), {
    withinMs: 60_000,
  });
  const seconds = (last - startedAt) / 1_000;
  const after = await readProcess(eds.pid);
  const sent = clients.reduce((sum, client) => sum + client.answers, 0) - answers;
  const gigabytes = (clients.reduce((sum, client) => sum + client.bytes, 0) - bytes) / 1e9;
  console.log(`rolling restart of all ${shardCount} (3 changes each, ten shards a step) in ${seconds.toFixed(1)} s:`);
  console.log(
    `last stream has the end ${Math.round(performance.now() - last)} ms after it; ${Math.round(sent / streamCount)} answers a stream, ${gigabytes.toFixed(1)} GB in all`,
  );
  console.log(`eds: ${((after.cpuMs - before.cpuMs) / 1_000).toFixed(1)} s of CPU, ${after.rssMiB} MiB (peak ${after.peakMiB})\n`);
}

async function benchEnvoy(): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-bench-'));
  const cluster = await startCluster(shardCount, addressOf, 7_000);
  const envoy = await startEnvoy({ folder, eds: [cluster.eds.listening.grpc as string], follow: ['eds'] });
  try {
    await waitFor('the hosts', async () => (await envoy.stat('cluster.eds.membership_total')) === shardCount, { withinMs: 30_000 });
    const { endpoints } = cluster;
    const before = await readProcess(envoy.pid);
    const rounds = 10;
    const delays: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const updates = await envoy.stat('cluster.eds.update_success');
      (endpoints[round] as V1Endpoint).addresses = [`10.201.0.${round}`];
      const startedAt = performance.now();
      await cluster.put([round]);
      await waitFor('the update', async () => (await envoy.stat('cluster.eds.update_success')) > updates, { everyMs: 5 });
      delays.push(performance.now() - startedAt);
    }
    const after = await readProcess(envoy.pid);
    const small = await smallEnvoy(folder);
    delays.sort((a, b) => a - b);
    console.log(`real Envoy, ${shardCount} endpoints, Maglev table of 655,373, one worker:`);
    console.log(
      `${Math.round((after.cpuMs - before.cpuMs) / rounds)} ms of CPU an update (table included), ${after.rssMiB} MiB; with 1 endpoint ${small} MiB`,
    );
    console.log(`from the change in Kubernetes to the update in Envoy: median ${Math.round(delays[rounds >> 1] as number)} ms\n`);
  } finally {
    await envoy.stop();
    await cluster.close();
    await rm(folder, { recursive: true });
  }
}

/** The cost of one endpoint in the same Envoy. */
async function smallEnvoy(folder: string): Promise<number> {
  const cluster = await startCluster(1, addressOf, 7_000);
  const one: Envoy = await startEnvoy({
    folder: await mkdtemp(path.join(folder, 'one-')),
    eds: [cluster.eds.listening.grpc as string],
    follow: ['eds'],
  });
  try {
    await waitFor('the host', async () => (await one.stat('cluster.eds.membership_total')) === 1);
    return (await readProcess(one.pid)).rssMiB;
  } finally {
    await one.stop();
    await cluster.close();
  }
}

interface BenchStream {
  readonly client: Client;
  readonly call: ClientDuplexStream<unknown, Buffer>;
  answers: number;
  bytes: number;
  /** The size of the last response. */
  newest: Buffer | undefined;
}

/** Each stream has a separate connection, like an Envoy. Responses are acknowledged, and decoded only as far as that requires. */
async function openStreams(address: string): Promise<BenchStream[]> {
  const { DiscoveryRequest, DiscoveryResponse } = protos.service.discovery.v3;
  const method = '/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints';
  return Array.from({ length: streamCount }, (_, index) => {
    const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
    const call = client.makeBidiStreamRequest<object, Buffer>(
      method,
      (request) => DiscoveryRequest.serialize(request),
      (bytes) => bytes,
    );
    const stream: BenchStream = { client, call: call as never, answers: 0, bytes: 0, newest: undefined };
    call.on('data', (bytes: Buffer) => {
      stream.answers += 1;
      stream.bytes += bytes.length;
      stream.newest = bytes;
      // Version and nonce are in the first bytes, independent of the size of the resources.
      const head = DiscoveryResponse.deserialize(bytes.subarray(0, headLength(bytes)));
      call.write({ resource_names: ['kura-cache'], version_info: head.version_info, response_nonce: head.nonce });
    });
    call.on('error', () => undefined);
    call.write({ node: { id: `envoy-${index}`, locality: { zone: 'a' } }, resource_names: ['kura-cache'] });
    return stream;
  });
}

/** Length of the fields before the first `resources` (field 2). All of them are strings. */
function headLength(bytes: Buffer): number {
  let at = 0;
  while (at < bytes.length && bytes[at] !== 0x12) at += 2 + (bytes[at + 1] as number);
  return at;
}

function addressOf(index: number): string {
  return `10.0.${index >> 8}.${index & 255}`;
}

function hashKey(index: number): string {
  return `kura-cache-${index}/shard-0`;
}

function fetchText(port: number, key: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ port, path: key }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve(text));
    })
      .on('error', reject)
      .end();
  });
}
