/**
 * `npm run bench:through`: an epoch with an empty cache, of small and of large files. The files are at an origin: nginx, 20 ms away. They
 * are read through kura, by clients that fill the cache themselves, and from the origin, by one job and by four that start together.
 * Requires nginx (a Debian package). Takes about ten minutes.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { linkSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { makeTokens, startLocal } from './local.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms } from './run.ts';
import { machineBusySeconds, startNginx } from './servers.ts';
import { printTable, type Row } from './table.ts';

type Mode = 'through' | 'aside' | 'direct';
interface Epoch {
  readonly objectsPerSecond: number;
  readonly megabytesPerSecond: number;
  /** For each object. */
  readonly originRequests: number;
  /** CPU of the whole machine for each object and job. */
  readonly machineMicros: number;
  readonly failures: number;
}

const [KiB, MiB] = [1024, 1024 ** 2];
const delayMs = 20;
const bounds = { originRequests: 1.02, throughput: 0.9 };
const cases = [
  { name: 'small', bytes: 100 * KiB, count: isQuick ? 2_000 : 20_000 },
  { name: 'large', bytes: 64 * MiB, count: isQuick ? 20 : 200 },
];

requirePrograms('bench:through', ['nginx', 'setpriv']);
const folder = makeFolder();
const nginx = await startNginx(folder, 18_097, true);
const link = spawn(
  'setpriv',
  ['--pdeathsig', 'KILL', '--', process.execPath, path.join(import.meta.dirname, 'slow-link.ts'), new URL(nginx.url).port, String(delayMs)],
  { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
);
const { port } = await messageOf<{ port: number }>(link);
const originUrl = `http://127.0.0.1:${port}`;
// Each epoch has a prefix that no other epoch has, so its cache is empty.
const prefixes = cases.flatMap(({ name }) => [1, 4].map((jobs) => ({ prefix: prefixOf(name, 'through', jobs), folder: name })));
const local = await startLocal(
  folder,
  prefixes.flatMap((each) => ['--origin', `${each.prefix}=${originUrl}/${each.folder}/`]),
);
const [token] = (await makeTokens(local, 1)) as [string];

const rows: Row[] = [];
for (const { name, bytes, count } of cases) {
  if (!isWanted(name)) continue;
  const names = placeFiles(name, bytes, count);
  for (const jobs of [1, 4]) {
    const epochs = {} as Record<Mode, Epoch>;
    for (const mode of ['direct', 'through', 'aside'] as const) {
      progress(`${name}, ${jobs} jobs, ${mode}`);
      epochs[mode] = await runEpoch(name, { mode, jobs, names, count, bytes });
    }
    rows.push(rowOf(`${count} files of ${bytes / KiB} KiB, ${jobs} jobs`, jobs, epochs));
  }
}
printTable(rows, { isQuick, cpu: 'the whole machine' });
process.exit(0);

/** Returns the file with the names. All files have the same bytes and share one inode. */
function placeFiles(name: string, bytes: number, count: number): string {
  const files = path.join(folder, 'www', name);
  mkdirSync(files, { recursive: true });
  writeFileSync(path.join(files, '0'), randomBytes(bytes));
  for (let number = 1; number < count; number += 1) linkSync(path.join(files, '0'), path.join(files, String(number)));
  const list = path.join(folder, `${name}.txt`);
  writeFileSync(list, Array.from({ length: count }, (_, number) => `${number}\n`).join(''));
  return list;
}

async function runEpoch(
  name: string,
  { mode, jobs, names, count, bytes }: { mode: Mode; jobs: number; names: string; count: number; bytes: number },
): Promise<Epoch> {
  const kura = `${local.url}/objects/${prefixOf(name, mode, jobs)}`.replace(/\/$/, '');
  const options = { mode, kura, origin: `${originUrl}/${name}`, names, token };
  const words = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  const run = () => promisify(execFile)(process.execPath, [path.join(import.meta.dirname, 'through-client.ts'), ...words]);
  const [requestsBefore, busyBefore, startedAt] = [await requestsAtOrigin(), machineBusySeconds(), performance.now()];
  const results = await Promise.all(Array.from({ length: jobs }, run));
  const seconds = (performance.now() - startedAt) / 1000;
  const machineMicros = ((machineBusySeconds() - busyBefore) * 1e6) / (jobs * count);
  const read = results.map(({ stdout }) => JSON.parse(stdout) as { bytes: number; failures: number });
  const missing = jobs * count * bytes - read.reduce((sum, each) => sum + each.bytes, 0);
  return {
    objectsPerSecond: (jobs * count) / seconds,
    megabytesPerSecond: (jobs * count * bytes) / 1e6 / seconds,
    originRequests: ((await requestsAtOrigin()) - requestsBefore) / count,
    machineMicros,
    failures: read.reduce((sum, each) => sum + each.failures, 0) + (missing === 0 ? 0 : 1),
  };
}

function rowOf(what: string, jobs: number, epochs: Record<Mode, Epoch>): Row {
  const { through, direct } = epochs;
  const details = Object.entries(epochs).map(([mode, each]) => `${mode} ${describe(each)}`);
  const failures = Object.values(epochs).reduce((sum, each) => sum + each.failures, 0);
  const [bound, result, isMet] =
    jobs === 1
      ? [
          `>= ${bounds.throughput} × direct`,
          ratio(through, direct),
          through.objectsPerSecond >= bounds.throughput * direct.objectsPerSecond,
        ]
      : [
          `<= ${bounds.originRequests} requests at the origin`,
          `${through.originRequests.toFixed(3)}, ${ratio(through, direct)}`,
          through.originRequests <= bounds.originRequests,
        ];
  return { what, bound, result, isMet: isMet && failures === 0, details: details.join('; ') };
}

function ratio(ours: Epoch, theirs: Epoch): string {
  return `${(ours.objectsPerSecond / theirs.objectsPerSecond).toFixed(2)} × direct`;
}

function describe({ objectsPerSecond, megabytesPerSecond, originRequests, machineMicros, failures }: Epoch): string {
  const rate = `${objectsPerSecond.toFixed(objectsPerSecond < 100 ? 1 : 0)} objects/s, ${megabytesPerSecond.toFixed(0)} MB/s`;
  const failed = failures > 0 ? `, ${failures} failures` : '';
  return `${rate}, ${originRequests.toFixed(3)} origin requests, ${machineMicros.toFixed(0)} µs${failed}`;
}

function prefixOf(name: string, mode: Mode, jobs: number): string {
  return `vision/${name}-${mode}-${jobs}/`;
}

async function requestsAtOrigin(): Promise<number> {
  link.send('count');
  return (await messageOf<{ requests: number }>(link)).requests;
}

async function messageOf<T>(child: ChildProcess): Promise<T> {
  const done = new AbortController();
  const { signal } = done;
  try {
    const [message] = (await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(() => Promise.reject(new Error('the link to the origin ended'))),
    ])) as [T];
    return message;
  } finally {
    done.abort();
  }
}
