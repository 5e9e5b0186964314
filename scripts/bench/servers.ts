/** The servers of the shard's bench: shards and nginx, each with a separate folder, and their CPU time. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nodeFlags } from '../../services/shared/node-flags.ts';

export interface BenchServer {
  readonly name: string;
  readonly url: string;
  /** The metrics page of a shard. */
  readonly metricsUrl: string | undefined;
  readonly pid: number;
  /** Every process whose CPU a request costs, by role. */
  readonly parts: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

const root = path.resolve(import.meta.dirname, '..', '..');
/** Clock ticks in /proc: 100 per second on every Linux that Node supports. */
const ticksPerSecond = 100;

export async function startShard(
  directory: string,
  environment: Readonly<Record<string, string>> = {},
  program = 'services/cache/main.ts',
): Promise<BenchServer> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, ...nodeFlags, path.join(root, program)], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH,
      KURA_CACHE_DIRECTORY: directory,
      KURA_CACHE_LISTEN: '127.0.0.1:0',
      KURA_CACHE_METRICS_LISTEN: '127.0.0.1:0',
      KURA_CACHE_DRAIN: '0ms',
      KURA_CACHE_CREDENTIAL_FILE: 'off',
      KURA_CACHE_SCRUB: '0',
      KURA_CACHE_LOG_LEVEL: 'error',
      ...environment,
    },
  });
  const [message] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('the shard did not start'))),
  ])) as [{ listening: { objects: string; metrics: string } }];
  const { objects, metrics } = message.listening;
  return { ...oneProcess('kura', child, `http://${objects}`), metricsUrl: `http://${metrics}` };
}

/** A bare Node server for the files that nginx has. */
export async function startBareNode(folder: string): Promise<BenchServer> {
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', process.execPath, path.join(import.meta.dirname, 'bare-node.ts'), path.join(folder, 'www')],
    { detached: true, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );
  const [{ port }] = (await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => Promise.reject(new Error('the bare Node server did not start'))),
  ])) as [{ port: number }];
  return oneProcess('bare Node', child, `http://127.0.0.1:${port}`);
}

/** nginx with one worker, sendfile, open_file_cache and WebDAV PUT. */
export async function startNginx(folder: string, port: number, isTcpNopush: boolean): Promise<BenchServer> {
  mkdirSync(path.join(folder, 'www', 'objects'), { recursive: true });
  const config = path.join(folder, `nginx-${port}.conf`);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder}/${name};`).join(' ');
  writeFileSync(
    config,
    `${process.getuid?.() === 0 ? 'user root;' : ''} worker_processes 1; pid ${folder}/nginx-${port}.pid; error_log ${folder}/error.log; daemon off;
events { worker_connections 20000; }
http { sendfile on; tcp_nopush ${isTcpNopush ? 'on' : 'off'}; access_log off; open_file_cache max=10000; keepalive_requests 100000000; ${temporary}
server { listen 127.0.0.1:${port}; root ${folder}/www; client_max_body_size 0; dav_methods PUT; create_full_put_path on; } }`,
  );
  return await startProgram({ name: 'nginx', words: ['nginx', '-c', config], port, isForked: true });
}

/** Starts a program that listens on a port of loopback. `isForked`: a child of the program serves the requests. */
export async function startProgram({
  name,
  words,
  port,
  isForked,
}: {
  name: string;
  words: readonly string[];
  port: number;
  isForked: boolean;
}): Promise<BenchServer> {
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', ...words], { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries += 1) {
    try {
      await fetch(url);
      break;
    } catch (error) {
      if (tries > 100 || child.exitCode !== null) throw new Error(`${name} did not start`, { cause: error });
      await delay(50);
    }
  }
  const server = oneProcess(name, child, url);
  if (!isForked) return server;
  const worker = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ')[0]);
  return { ...server, pid: worker, parts: { [name]: worker } };
}

/** The seconds that the machine has been busy since it started. */
export function machineBusySeconds(): number {
  const fields = (/^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1] ?? '').split(' ').map(Number);
  const [user, nice, system, , , irq, softirq] = fields as [number, number, number, number, number, number, number];
  return (user + nice + system + irq + softirq) / ticksPerSecond;
}

/** The CPU seconds of one process. */
export function processSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Resident memory of a process in bytes: now, or its peak. */
export function residentBytes(pid: number, which: 'VmRSS' | 'VmHWM'): number {
  return Number(new RegExp(`^${which}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}

/** One metric of a shard. */
export async function shardMetric(server: BenchServer, name: string): Promise<number> {
  const text = await (await fetch(`${server.metricsUrl}/metrics`)).text();
  return Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (.*)$`, 'm').exec(text)?.[1] ?? Number.NaN);
}

/** `setpriv` executes the program in the same process. */
function oneProcess(name: string, child: ChildProcess, url: string): BenchServer {
  const pid = child.pid as number;
  return { name, url, metricsUrl: undefined, pid, parts: { [name]: pid }, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}
