/**
 * `npm run bench:path`: compares the whole request path of kura (local system with Envoy, grants, authz and one shard) with a plain
 * Envoy in front of nginx without authorization, alternating in one run. CPU is that of the whole machine, including the client.
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
import { type BenchServer, processSeconds, startNginx } from './servers.ts';
import { compare, printTable, type Row } from './table.ts';

const [KiB, MiB] = [1024, 1024 ** 2];
const tokenCount = 64;
const limitPerSecond = 500;
requirePrograms('bench:path', ['nginx', 'wrk', 'setpriv']);
const folder = makeFolder();

const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_095, true);
const baseline = await startPlainEnvoy({ server: nginx, folder, port: 18_096, workers: 2 });
const ours: BenchServer = {
  name: 'kura',
  url: local.url,
  metricsUrl: undefined,
  pid: local.processes.envoy as number,
  stop: async () => {},
};
const servers = [ours, baseline];
const tokens = await makeTokens(local, tokenCount);
const lua = `local tokens = {${tokens.map((token) => `"Bearer ${token}"`).join(',')}}; local n = 0
local function headers() n = n + 1; return { Authorization = tokens[n % ${tokenCount} + 1] } end\n`;
const rows: Row[] = [];

for (const { name, bytes, bound } of [
  { name: '4 KiB', bytes: 4 * KiB, bound: 1.5 },
  { name: '112 KiB', bytes: 112 * KiB, bound: 1.4 },
  { name: '1 MiB', bytes: MiB, bound: 1.1 },
  { name: '64 MiB', bytes: 64 * MiB, bound: 1.1 },
]) {
  if (!isWanted(name)) continue;
  const target = `/objects/vision/bench-${bytes}`;
  await place({ url: ours.url, token: tokens[0] as string, folder }, target, randomBytes(bytes));
  const script = `${lua}request = function() return wrk.format("GET", "${target}", headers()) end`;
  rows.push(await inTurn(`GET ${name}`, bound, script));
  if (bytes === 4 * KiB) rows.push(await latencies(target));
}
if (isWanted('PUT')) {
  rows.push(
    await inTurn(
      'PUT 112 KiB, new keys, against nginx WebDAV',
      1.5,
      `${lua}local body = string.rep("x", ${112 * KiB}); local run = tostring({}):sub(8)
request = function() local h = headers(); return wrk.format("PUT", "/objects/vision/put-" .. run .. "/" .. n, h, body) end`,
    ),
  );
}
if (isWanted('fair')) rows.push(await fairness());
progress('done');
printTable(rows, { isQuick });
process.exit(0);

async function inTurn(what: string, bound: number, script: string): Promise<Row> {
  const best = new Map<BenchServer, LoadResult & { parts: string }>();
  // Warm-up: Node compiles hot code, and authz reviews every token once.
  for (const server of servers) await load({ server, path: '/', seconds: 2, folder, script });
  for (let round = 0; round < rounds; round += 1) {
    for (const server of servers) {
      progress(`${what}, ${server.name}`);
      const before = ourSeconds();
      const result = await load({ server, path: '/', seconds, folder, script });
      const after = ourSeconds();
      const parts = [...after]
        .map(([part, busy]) => `${part} ${(((busy - (before.get(part) ?? 0)) * 1e6) / result.requests).toFixed(0)}`)
        .join(', ');
      const known = best.get(server);
      if (known === undefined || better(result, known) === result) best.set(server, { ...result, parts });
    }
  }
  const [mine, theirs] = servers.map((server) => best.get(server)) as [LoadResult & { parts: string }, LoadResult];
  const row = compare(what, bound, { ours: mine, theirs, labels: { baseline: 'baseline', theirs: 'Envoy to nginx', own: 'its Envoy' } });
  return { ...row, details: `${row.details}; ours: ${mine.parts} µs` };
}

/** About half of the maximum rate of the baseline: each connection waits before its next request. */
async function latencies(target: string): Promise<Row> {
  const script = `${lua}request = function() return wrk.format("GET", "${target}", headers()) end\ndelay = function() return math.random(1, 3) end`;
  const p99 = new Map<BenchServer, number[]>();
  let rate = 0;
  for (let round = 0; round < rounds; round += 1) {
    for (const server of servers) {
      progress(`p99 at half load, ${server.name}`);
      const result = await load({ server, path: '/', seconds, folder, script });
      rate = result.requestsPerSecond;
      p99.set(server, [...(p99.get(server) ?? []), Number.parseFloat(result.p99)]);
    }
  }
  const [mine, theirs] = servers.map((server) => Math.min(...(p99.get(server) ?? []))) as [number, number];
  return {
    what: 'p99 of GET 4 KiB at half load',
    bound: '<= 2 × baseline',
    result: `${(mine / theirs).toFixed(2)} ×`,
    isMet: mine <= 2 * theirs,
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

/** CPU seconds of each process of kura. */
function ourSeconds(): Map<string, number> {
  const { envoy, authz, 'kura-cache-0': shard, eds, kubernetes } = local.processes as Record<string, number>;
  return new Map(Object.entries({ envoy, authz, shard, eds, kubernetes }).map(([name, pid]) => [name, processSeconds(pid as number)]));
}
