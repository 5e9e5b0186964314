/**
 * `npm run bench:direct`: a GET by the direct way (Envoy's 307 and the body from the shard, both requests counted) against the same through Envoy, and against a plain Envoy
 * in front of nginx without authorization, in turn and in one run. CPU is that of all server processes, without the client's. Needs nginx (Debian package). Some three minutes.
 */
import { randomBytes } from 'node:crypto';
import { follow } from './bench-direct-load.ts';
import { startPlainEnvoy } from './bench-envoy.ts';
import { makeTokens, place, startLocal } from './bench-local.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms, rounds, seconds } from './bench-run.ts';
import { processSeconds, startNginx } from './bench-servers.ts';
import { printTable, type Row } from './bench-table.ts';

const [KiB, MiB] = [1024, 1024 ** 2];
const clients = 16;
requirePrograms('bench:direct', ['nginx', 'setpriv']);
const folder = makeFolder();

const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_097, true);
const plain = await startPlainEnvoy({ server: nginx, folder, port: 18_098, workers: 2 });
const tokens = await makeTokens(local, 64);

interface Way {
  readonly name: string;
  readonly url: string;
  readonly prefix: string;
  /** Every process that serves it, by what it is. */
  readonly pids: Readonly<Record<string, number>>;
}

const { envoy, authz, eds, kubernetes, 'kura-cache-0': shard } = local.processes as Record<string, number>;
const ours = { envoy, shard, authz, eds, kubernetes } as Record<string, number>;
const ways: readonly [Way, Way, Way] = [
  { name: 'direct', url: local.url, prefix: '/direct', pids: ours },
  { name: 'proxied', url: local.url, prefix: '/objects', pids: ours },
  { name: 'Envoy to nginx', url: plain.url, prefix: '/objects', pids: { envoy: plain.pid, nginx: nginx.pid } },
];

interface Measured {
  /** CPU of all server processes a GET. */
  readonly micros: number;
  readonly perSecond: number;
  readonly parts: string;
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
  rows.push(await inTurn(`GET ${name}`, { key, bytes, bound }));
}
progress('done');
printTable(rows, { isQuick, cpu: 'all server processes' });
process.exit(0);

async function inTurn(what: string, { key, bytes, bound }: { key: string; bytes: number; bound: number }): Promise<Row> {
  const best = new Map<Way, Measured>();
  // Node compiles what is hot, and every token is reviewed once.
  for (const way of ways) await measure(way, { key, bytes, seconds: 2 });
  for (let round = 0; round < rounds; round += 1) {
    for (const way of ways) {
      progress(`${what}, ${way.name}`);
      const result = await measure(way, { key, bytes, seconds });
      const known = best.get(way);
      if (known === undefined || result.micros < known.micros) best.set(way, result);
    }
  }
  const [direct, proxied, yardstick] = ways.map((way) => best.get(way)) as [Measured, Measured, Measured];
  const ratio = direct.micros / proxied.micros;
  const show = ({ micros, perSecond, parts }: Measured) => `${micros.toFixed(0)} µs (${parts}), ${perSecond.toFixed(0)} a second`;
  return {
    what,
    bound: `<= ${bound} × proxied`,
    result: `${ratio.toFixed(2)} ×`,
    isMet: ratio <= bound,
    details: `direct ${show(direct)}; proxied ${show(proxied)}; ${ways[2].name} ${show(yardstick)}`,
  };
}

async function measure(
  { url, prefix, pids }: Way,
  { key, bytes, seconds: length }: { key: string; bytes: number; seconds: number },
): Promise<Measured> {
  const used = (): [string, number][] => Object.entries(pids).map(([part, pid]) => [part, processSeconds(pid)]);
  const [before, startedMs] = [used(), performance.now()];
  const gets = await follow({ url, path: prefix + key, tokens, clients, seconds: length }, bytes);
  const each = used().map(([part, busy], at): [string, number] => [part, ((busy - (before[at] as [string, number])[1]) * 1e6) / gets]);
  return {
    micros: each.reduce((sum, [, micros]) => sum + micros, 0),
    perSecond: (gets * 1000) / (performance.now() - startedMs),
    parts: each.map(([part, micros]) => `${part} ${micros.toFixed(0)}`).join(', '),
  };
}
