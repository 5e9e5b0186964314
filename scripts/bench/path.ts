/**
 * `npm run bench:path`: compares the whole request path of kura (local system with Envoy, grants, authz and one shard) with a plain
 * Envoy in front of nginx without authorization, and with a plain Envoy in front of bare Node, alternating in one run.
 * Requires nginx and wrk (Debian packages). Takes about five minutes.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startPlainEnvoy } from './envoy.ts';
import { better, type LoadResult, load } from './load.ts';
import { makeTokens, place, startLocal } from './local.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms, rounds, seconds } from './run.ts';
import { type BenchServer, startBareNode, startNginx } from './servers.ts';
import { compare, describe, printTable, type Row } from './table.ts';

const [KiB, MiB] = [1024, 1024 ** 2];
const tokenCount = 64;
const limitPerSecond = 500;
requirePrograms('bench:path', ['nginx', 'wrk', 'setpriv']);
const folder = makeFolder();

const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_095, true);
const baseline = await startPlainEnvoy({ server: nginx, folder, port: 18_096, workers: 2 });
const node = await startPlainEnvoy({ server: await startBareNode(folder), folder, port: 18_094, workers: 2 });
const { envoy, authz, 'kura-cache-0': shard, eds, kubernetes } = local.processes as Record<string, number>;
const ours: BenchServer = {
  name: 'kura',
  url: local.url,
  metricsUrl: undefined,
  pid: envoy as number,
  parts: { envoy, shard, authz, eds, kubernetes } as Record<string, number>,
  stop: async () => {},
};
const tokens = await makeTokens(local, tokenCount);
const lua = `local tokens = {${tokens.map((token) => `"Bearer ${token}"`).join(',')}}; local n = 0
local function headers() n = n + 1; return { Authorization = tokens[n % ${tokenCount} + 1] } end\n`;
const rows: Row[] = [];

for (const { name, bytes, bound } of [
  { name: '4 KiB', bytes: 4 * KiB, bound: 1.4 },
  { name: '112 KiB', bytes: 112 * KiB, bound: 1.3 },
  { name: '1 MiB', bytes: MiB, bound: 1.05 },
  { name: '64 MiB', bytes: 64 * MiB, bound: 1.05 },
]) {
  if (!isWanted(name)) continue;
  const target = `/objects/vision/bench-${bytes}`;
  await place({ url: ours.url, token: tokens[0] as string, folder }, target, randomBytes(bytes));
  const script = `${lua}request = function() return wrk.format("GET", "${target}", headers()) end`;
  const best = await inTurn(`GET ${name}`, [ours, baseline, node], script);
  rows.push(compareWith(baseline, `GET ${name}`, { bound, best }));
  rows.push(compareShard(`GET ${name}, the shard behind Envoy`, best));
  if (bytes === 4 * KiB) rows.push(await latencies(target));
}
if (isWanted('PUT')) {
  const what = 'PUT 112 KiB, new keys, against nginx WebDAV';
  const script = `${lua}local body = string.rep("x", ${112 * KiB}); local run = tostring({}):sub(8)
request = function() local h = headers(); return wrk.format("PUT", "/objects/vision/put-" .. run .. "/" .. n, h, body) end`;
  rows.push(compareWith(baseline, what, { bound: 1.4, best: await inTurn(what, [ours, baseline], script) }));
}
if (isWanted('fair')) rows.push(await fairness());
progress('done');
printTable(rows, { isQuick });
process.exit(0);

async function inTurn(what: string, servers: readonly BenchServer[], script: string): Promise<Map<BenchServer, LoadResult>> {
  const best = new Map<BenchServer, LoadResult>();
  // Warm-up: Node compiles hot code, and authz reviews every token once.
  for (const server of servers) await load({ server, path: '/', seconds: 2, folder, script });
  for (let round = 0; round < rounds; round += 1) {
    for (const server of servers) {
      progress(`${what}, ${server.name}`);
      best.set(server, better(await load({ server, path: '/', seconds, folder, script }), best.get(server)));
    }
  }
  return best;
}

function compareWith(
  other: BenchServer,
  what: string,
  { bound, best }: { bound: number | undefined; best: ReadonlyMap<BenchServer, LoadResult> },
): Row {
  const [mine, theirs] = [ours, other].map((server) => best.get(server)) as [LoadResult, LoadResult];
  return compare(what, bound, { ours: mine, theirs, labels: { baseline: 'baseline', theirs: other.name } });
}

/** Compares the shard alone with bare Node alone, each behind its Envoy. */
function compareShard(what: string, best: ReadonlyMap<BenchServer, LoadResult>): Row {
  const [mine, theirs] = [best.get(ours)?.parts.shard, best.get(node)?.parts['bare Node']] as [number, number];
  const bound = 1.25;
  return {
    what,
    bound: `<= ${bound} × bare Node behind Envoy`,
    result: `${(mine / theirs).toFixed(2)} ×`,
    isMet: mine <= bound * theirs,
    details: `shard ${mine.toFixed(0)} µs; ${node.name} ${describe(best.get(node) as LoadResult)}`,
  };
}

/** About half of the maximum rate of the baseline: each connection waits before its next request. */
async function latencies(target: string): Promise<Row> {
  const script = `${lua}request = function() return wrk.format("GET", "${target}", headers()) end\ndelay = function() return math.random(1, 3) end`;
  const p99 = new Map<BenchServer, number[]>();
  let rate = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const server of [ours, baseline]) {
      progress(`p99 at half load, ${server.name}`);
      const result = await load({ server, path: '/', seconds, folder, script });
      rate = result.requestsPerSecond;
      p99.set(server, [...(p99.get(server) ?? []), Number.parseFloat(result.p99)]);
    }
  }
  const [mine, theirs] = [ours, baseline].map((server) => Math.min(...(p99.get(server) ?? []))) as [number, number];
  return {
    what: 'p99 of GET 4 KiB at half load',
    bound: '<= 1.8 × baseline',
    result: `${(mine / theirs).toFixed(2)} ×`,
    isMet: mine <= 1.8 * theirs,
    details: `${mine} ms and ${theirs} ms at some ${rate.toFixed(0)} req/s`,
  };
}

/** A slow reader of one namespace, while the policy limits the request rate of a fast reader of another namespace. */
async function fairness(): Promise<Row> {
  const key = '/objects/vision/calm';
  await place({ url: ours.url, token: tokens[0] as string, folder }, key, randomBytes(4 * KiB));
  const script = `${lua}request = function() return wrk.format("GET", "${key}", headers()) end\ndelay = function() return math.random(2, 6) end`;
  const calmly = (): Promise<LoadResult> => load({ server: ours, path: '/', seconds, folder, script, connections: 4 });
  const elsewhere = path.join(folder, 'flood');
  mkdirSync(elsewhere);
  const token = readFileSync(local.tokens['nlp/trainer'] as string, 'utf8').trim();
  const flood = `request = function() return wrk.format("GET", "/objects/nlp/x", { Authorization = "Bearer ${token}" }) end`;
  const beside = async (): Promise<LoadResult> => {
    const flooding = load({ server: ours, path: '/', seconds: seconds + 2, folder: elsewhere, script: flood });
    const [calm] = await Promise.all([calmly(), flooding]);
    return calm;
  };
  progress('fairness');
  await calmly();
  const alone = await calmly();
  const unlimited = await beside();
  const policy = local.policy as string;
  writeFileSync(
    policy,
    `${readFileSync(policy, 'utf8')}\noverrides: [{ namespaces: [nlp], limits: { requestsPerSecond: ${limitPerSecond} } }]\n`,
  );
  // Waits until the current grant expires.
  await delay(6_000);
  const limited = await beside();
  const ms = ({ p99 }: LoadResult): number => Number.parseFloat(p99);
  return {
    what: `p99 of a calm namespace beside one at full tilt, limited to ${limitPerSecond} requests a second`,
    bound: '<= 2 × alone',
    result: `${(ms(limited) / ms(alone)).toFixed(2)} ×`,
    isMet: ms(limited) <= 2 * ms(alone),
    details: `${alone.p99} alone, ${limited.p99} beside it, ${unlimited.p99} beside it without the limit`,
  };
}
