/**
 * `npm run bench:path`: compares the whole request path of kura (local system with Envoy, grants, authz and one shard) with a plain
 * Envoy in front of nginx without authorization, and with a plain Envoy in front of the other yardsticks, alternating
 * in one run. Requires nginx and wrk (Debian packages). Takes about nine minutes.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startPlainEnvoy } from './envoy.ts';
import { better, type LoadResult, load } from './load.ts';
import { makeTokens, place, startLocal } from './local.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms, rounds, seconds } from './run.ts';
import { type BenchServer, startNginx } from './servers.ts';
import { against, compare, describe, printTable, type Row } from './table.ts';
import { startYardsticks, type Yardstick } from './yardsticks.ts';

const [KiB, MiB] = [1024, 1024 ** 2];
const tokenCount = 64;
const limitPerSecond = 500;
requirePrograms('bench:path', ['nginx', 'wrk', 'setpriv']);
const folder = makeFolder();

const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_095, true);
const baseline = await startPlainEnvoy({ server: nginx, folder, port: 18_096, workers: 2 });
const others: readonly Yardstick[] = await Promise.all(
  (await startYardsticks({ folder, nginx, firstPort: 18_092, maxGiB: 8 })).map(async (yardstick, at) => ({
    ...yardstick,
    server: await startPlainEnvoy({ server: yardstick.server, folder, port: 18_086 + at, workers: 2 }),
  })),
);
const node = others[0]?.server as BenchServer;
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
  const body = randomBytes(bytes);
  await place({ url: ours.url, token: tokens[0] as string, folder }, target, body);
  const scripts = new Map([ours, baseline].map((server) => [server, getScript(target)]));
  for (const yardstick of others) scripts.set(yardstick.server, getScript(await yardstick.place(target, body)));
  const best = await inTurn(`GET ${name}`, scripts);
  rows.push(...compareAll(`GET ${name}`, bound, best));
  rows.push(compareShard(`GET ${name}, the shard behind Envoy`, best));
  if (bytes === 4 * KiB) rows.push(await latencies(target));
}
if (isWanted('PUT')) {
  const what = 'PUT 112 KiB, new keys';
  const script = (putPath: string) => `${lua}local body = string.rep("x", ${112 * KiB}); local run = tostring({}):sub(10)
request = function() local h = headers(); return wrk.format("PUT", ${putPath}, h, body) end`;
  const scripts = new Map([ours, baseline].map((server) => [server, script('"/objects/vision/put-" .. run .. "/" .. n')]));
  for (const { server, putPath } of others) if (putPath !== undefined) scripts.set(server, script(putPath('run')));
  rows.push(...compareAll(what, 1.4, await inTurn(what, scripts)));
}
if (isWanted('fair')) rows.push(await fairness());
progress('done');
printTable(rows, { isQuick });
process.exit(0);

async function inTurn(what: string, scripts: ReadonlyMap<BenchServer, string>): Promise<Map<BenchServer, LoadResult>> {
  const best = new Map<BenchServer, LoadResult>();
  // Warm-up: Node compiles hot code, and authz reviews every token once.
  for (const [server, script] of scripts) await load({ server, path: '/', seconds: 2, folder, script });
  for (let round = 0; round < rounds; round += 1) {
    for (const [server, script] of scripts) {
      progress(`${what}, ${server.name}`);
      best.set(server, better(await load({ server, path: '/', seconds, folder, script }), best.get(server)));
    }
  }
  return best;
}

function getScript(target: string): string {
  return `${lua}request = function() return wrk.format("GET", "${target}", headers()) end`;
}

/** Compares kura with the baseline, which has the bound, and with each other server. */
function compareAll(what: string, bound: number, best: ReadonlyMap<BenchServer, LoadResult>): Row[] {
  const mine = best.get(ours) as LoadResult;
  return [...best].flatMap(([server, theirs]) => {
    if (server === ours) return [];
    if (server !== baseline) return [against(what, server.name, { ours: mine, theirs })];
    return [compare(what, bound, { ours: mine, theirs, labels: { baseline: 'baseline', theirs: server.name } })];
  });
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
  const script = `${getScript(target)}\ndelay = function() return math.random(1, 3) end`;
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
  const script = `${getScript(key)}\ndelay = function() return math.random(2, 6) end`;
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
