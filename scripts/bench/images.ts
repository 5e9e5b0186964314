/**
 * `npm run bench:images`: images a second of real loaders, torch's DataLoader with a map dataset and WebDataset, from kura through Envoy,
 * from nginx and from the local disk, alternating in one run. Requires nginx (a Debian package) and the packages of `npm run test:torch`.
 * Takes about four minutes.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { installFromSource, virtualEnvironment } from '../../test/support/python-packages.ts';
import { startLocal } from './local.ts';
import { isQuick, makeFolder, progress, requirePrograms } from './run.ts';
import { startNginx } from './servers.ts';
import { printTable, type Row } from './table.ts';

const minRatio = 0.8;
const root = path.resolve(import.meta.dirname, '..', '..');
const client = path.join(root, 'clients', 'python');

/** `own` and `servers`: CPU milliseconds of the loader and of the servers for an image. */
interface Source {
  readonly rate: number;
  readonly own: number;
  readonly servers: number;
}
interface Result {
  readonly case: string;
  readonly ratio: number;
  readonly kura: Source;
  readonly nginx: Source;
  readonly disk: Source;
}

requirePrograms('bench:images', ['nginx', 'setpriv']);
const python = await virtualEnvironment('torch', path.join(client, 'tests', 'real', 'requirements.txt'));
const folder = makeFolder();
const own = await installFromSource(client, folder);
const local = await startLocal(folder);
const nginx = await startNginx(folder, 18_097, true);
const pids = { kura: Object.values(local.processes), nginx: [nginx.pid] };
const workers = 2 * availableParallelism();
const options = { folder, nginx: nginx.url, workers, pids, rounds: isQuick ? 1 : 3, count: isQuick ? 200 : 400 };
const program = path.join(import.meta.dirname, 'images.py');
const loader = spawn('setpriv', ['--pdeathsig', 'KILL', '--', python, program, JSON.stringify(options)], {
  env: {
    PATH: process.env.PATH,
    PYTHONPATH: own,
    KURA_SERVER: local.url,
    KURA_TOKEN_FILE: local.tokens['vision/trainer'],
  },
  stdio: ['ignore', 'pipe', 'inherit'],
});
const exited = once(loader, 'exit');
const rows: Row[] = [];
for await (const line of createInterface({ input: loader.stdout })) {
  rows.push(rowOf(JSON.parse(line) as Result));
  progress(line);
}
const [status] = (await exited) as [number | null];
if (status !== 0) throw new Error(`images.py ended with status ${status}`);
printTable(rows, { isQuick, cpu: 'loader + servers' });
process.exit(0);

function rowOf({ case: what, ratio, ...sources }: Result): Row {
  const show = (name: 'kura' | 'nginx' | 'disk') => {
    const { rate, own, servers } = sources[name];
    return `${name} ${rate.toFixed(0)} images/s (${own.toFixed(2)} + ${servers.toFixed(2)} ms)`;
  };
  return {
    what: `${what}, ${workers} workers`,
    bound: `>= ${minRatio} × nginx`,
    result: `${ratio.toFixed(2)} ×`,
    isMet: ratio >= minRatio,
    details: [show('kura'), show('nginx'), show('disk')].join('; '),
  };
}
