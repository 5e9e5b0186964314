/**
 * `npm run bench:direct`: compares a direct GET with the same GET through Envoy, and with a plain Envoy in front of nginx without
 * authorization, alternating in one run. CPU is that of all server processes, without the client. wrk does not follow redirects, so the
 * two requests of a direct GET are measured separately and added. Then 16 clients in Node, which follow each redirect, compare a direct
 * GET with a GET through Envoy for more sizes. Requires nginx and wrk (Debian packages). Takes about seven minutes.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { startPlainEnvoy } from './envoy.ts';
import { load } from './load.ts';
import { makeTokens, place, startLocal } from './local.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms, rounds, seconds } from './run.ts';
import { processSeconds, startNginx } from './servers.ts';
import { printTable, type Row } from './table.ts';

const [KiB, MiB] = [1024, 1024 ** 2];
requirePrograms('bench:direct', ['nginx', 'wrk', 'setpriv']);
const folder = makeFolder();

// Redirects objects of every size.
process.env.KURA_CACHE_DIRECT_MIN_BYTES = '0';
const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_097, true);
const plain = await startPlainEnvoy({ server: nginx, folder, port: 18_098, workers: 2 });
const tokens = await makeTokens(local, 64);
const lua = `local tokens = {${tokens.map((token) => `"Bearer ${token}"`).join(',')}}; local n = 0
local function headers() n = n + 1; return { Authorization = tokens[n % ${tokens.length} + 1] } end\n`;

interface Asking {
  readonly url: string;
  readonly path: string;
  readonly hasToken: boolean;
}

interface Way {
  readonly name: string;
  /** The requests of one GET, in order. */
  readonly asks: readonly ((key: string) => Asking | Promise<Asking>)[];
  /** Every process that serves the requests, by role. */
  readonly pids: Readonly<Record<string, number>>;
}

const { envoy, authz, eds, 'kura-cache-0': shard } = local.processes as Record<string, number>;
const ours = { envoy, shard, authz, eds } as Record<string, number>;
const ways: readonly Way[] = [
  { name: 'direct', asks: [(key) => ({ url: local.url, path: `/direct${key}`, hasToken: true }), askByTicket], pids: ours },
  { name: 'proxied', asks: [(key) => ({ url: local.url, path: `/objects${key}`, hasToken: true })], pids: ours },
  {
    name: 'Envoy to nginx',
    asks: [(key) => ({ url: plain.url, path: `/objects${key}`, hasToken: true })],
    pids: { envoy: plain.pid, nginx: nginx.pid },
  },
];

interface Measured {
  /** CPU of all server processes per GET. */
  readonly micros: number;
  readonly failures: number;
  /** The times of each request. */
  readonly details: string;
}

const rows: Row[] = [];
for (const { name, bytes, bound } of [
  { name: '256 KiB', bytes: 256 * KiB, bound: 0.75 },
  { name: '1 MiB', bytes: MiB, bound: 0.5 },
  { name: '64 MiB', bytes: 64 * MiB, bound: 0.45 },
]) {
  if (!isWanted(name)) continue;
  const key = `/vision/bench-${bytes}`;
  await place({ url: local.url, token: tokens[0] as string, folder }, `/objects${key}`, randomBytes(bytes));
  rows.push(await inTurn(`GET ${name}`, key, bound));
}
if (isWanted('follow')) {
  for (const { name, bytes, bound } of [
    { name: '64 KiB', bytes: 64 * KiB, bound: undefined },
    { name: '112 KiB', bytes: 112 * KiB, bound: undefined },
    { name: '256 KiB', bytes: 256 * KiB, bound: undefined },
    { name: '512 KiB', bytes: 512 * KiB, bound: undefined },
    { name: '1 MiB', bytes: MiB, bound: 0.6 },
    { name: '4 MiB', bytes: 4 * MiB, bound: undefined },
    { name: '64 MiB', bytes: 64 * MiB, bound: 0.3 },
  ]) {
    const key = `/vision/follow-${bytes}`;
    await place({ url: local.url, token: tokens[0] as string, folder }, `/objects${key}`, randomBytes(bytes));
    rows.push(await compareFollowers(name, key, bound));
  }
}
progress('done');
printTable(rows, { isQuick, cpu: 'all server processes' });
process.exit(0);

async function inTurn(what: string, key: string, bound: number): Promise<Row> {
  const best = new Map<Way, Measured>();
  // Warm-up: Node compiles hot code, and authz reviews every token once.
  for (const way of ways) await measure(way, key, 2);
  for (let round = 0; round < rounds; round += 1) {
    for (const way of ways) {
      progress(`${what}, ${way.name}`);
      const result = await measure(way, key, seconds);
      progress(`${way.name}: ${result.micros.toFixed(0)} µs, ${result.details}`);
      const known = best.get(way);
      if (known === undefined || isBetter(result, known)) best.set(way, result);
    }
  }
  const [direct, proxied] = ways.map((way) => best.get(way)) as [Measured, Measured];
  const ratio = direct.micros / proxied.micros;
  return {
    what,
    bound: `<= ${bound} × proxied`,
    result: `${ratio.toFixed(2)} ×`,
    isMet: ratio <= bound && direct.failures + proxied.failures === 0,
    details: ways.map((way) => `${way.name} ${best.get(way)?.micros.toFixed(0)} µs: ${best.get(way)?.details}`).join('; '),
  };
}

/** Prefers the round with fewer failures, because a failed request is cheap. */
function isBetter(one: Measured, other: Measured): boolean {
  return one.failures < other.failures || (one.failures === other.failures && one.micros < other.micros);
}

/** Returns the redirect target of a GET, with a ticket that is valid for the whole run. */
async function askByTicket(key: string): Promise<Asking> {
  const answer = await fetch(`${local.url}/direct${key}`, { headers: { authorization: `Bearer ${tokens[0]}` }, redirect: 'manual' });
  const { origin, pathname } = new URL(answer.headers.get('location') ?? '');
  return { url: origin, path: pathname, hasToken: false };
}

async function measure({ name, asks, pids }: Way, key: string, length: number): Promise<Measured> {
  const total = { micros: 0, failures: 0 };
  const details: string[] = [];
  for (const ask of asks) {
    const { url, path: target, hasToken } = await ask(key);
    const script = `${hasToken ? lua : 'local function headers() end\n'}request = function() return wrk.format("GET", "${target}", headers()) end`;
    const used = () => Object.values(pids).map(processSeconds);
    const before = used();
    const server = { name, url, metricsUrl: undefined, pid: process.pid, parts: {}, stop: async () => {} };
    const { requests, requestsPerSecond, failures } = await load({ server, path: '/', seconds: length, folder, script });
    const each = used().map((busy, at) => ((busy - (before[at] as number)) * 1e6) / requests);
    total.micros += each.reduce((sum, part) => sum + part, 0);
    const parts = Object.keys(pids).map((part, at) => `${part} ${each[at]?.toFixed(0)}`);
    const failed = failures > 0 ? `, ${failures} failures` : '';
    details.push(`${parts.join(', ')} at ${requestsPerSecond.toFixed(requestsPerSecond < 100 ? 1 : 0)} a second${failed}`);
    total.failures += failures;
  }
  return { ...total, details: details.join(' + ') };
}

interface Followed {
  /** CPU of each server process per GET, by role. */
  readonly parts: Readonly<Record<string, number>>;
  readonly serverMicros: number;
  /** Servers and client. Other work on the machine does not count. */
  readonly allMicros: number;
  readonly failures: number;
}

/** Compares a redirected GET with a proxied GET, by clients that follow redirects. */
async function compareFollowers(name: string, key: string, bound: number | undefined): Promise<Row> {
  const best = new Map<string, Followed>();
  const prefixes = ['direct', 'objects'];
  for (const prefix of prefixes) await follow(`/${prefix}${key}`, 2);
  for (let round = 0; round < rounds; round += 1) {
    for (const prefix of prefixes) {
      progress(`clients that follow redirects, ${name}, ${prefix}`);
      const result = await follow(`/${prefix}${key}`, seconds);
      const known = best.get(prefix);
      if (known === undefined || result.allMicros < known.allMicros) best.set(prefix, result);
    }
  }
  const [direct, proxied] = prefixes.map((prefix) => best.get(prefix)) as [Followed, Followed];
  const ratio = direct.serverMicros / proxied.serverMicros;
  return {
    what: `GET ${name}, clients that follow redirects`,
    bound: bound === undefined ? '–' : `<= ${bound} × proxied`,
    result: `${ratio.toFixed(2)} × (with clients ${(direct.allMicros / proxied.allMicros).toFixed(2)} ×)`,
    isMet: bound === undefined ? undefined : ratio <= bound && direct.failures + proxied.failures === 0,
    details: `direct ${describe(direct)}; proxied ${describe(proxied)}`,
  };
}

function describe({ parts, serverMicros, allMicros, failures }: Followed): string {
  const each = Object.entries(parts).map(([part, micros]) => `${part} ${micros.toFixed(0)}`);
  const failed = failures > 0 ? `, ${failures} failures` : '';
  return `${serverMicros.toFixed(0)} µs (${each.join(', ')}), with clients ${allMicros.toFixed(0)} µs${failed}`;
}

async function follow(target: string, length: number): Promise<Followed> {
  const program = path.join(import.meta.dirname, 'direct-client.ts');
  const words = [program, '--url', local.url + target, '--tokens', tokens.join(','), '--seconds', String(length)];
  const used = () => Object.values(ours).map(processSeconds);
  const before = used();
  const { stdout } = await promisify(execFile)(process.execPath, words);
  const { responses, failures, micros } = JSON.parse(stdout) as { responses: number; failures: number; micros: number };
  const each = used().map((busy, at) => ((busy - (before[at] as number)) * 1e6) / responses);
  const serverMicros = each.reduce((sum, part) => sum + part, 0);
  const parts = Object.fromEntries(Object.keys(ours).map((part, at) => [part, each[at] as number]));
  return { parts, serverMicros, allMicros: serverMicros + micros / responses, failures };
}
