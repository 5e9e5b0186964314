/** Generates load with wrk and fio, and measures the CPU time of the servers. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { type BenchServer, machineBusySeconds, processSeconds } from './servers.ts';

const run = promisify(execFile);

export interface LoadResult {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** CPU microseconds of the whole machine per request, including the client. */
  readonly machineMicros: number;
  /** The same for all processes of the server, and for each of them by role. */
  readonly serverMicros: number;
  readonly parts: Readonly<Record<string, number>>;
  readonly p50: string;
  readonly p99: string;
  readonly failures: number;
}

interface LoadOptions {
  readonly server: BenchServer;
  readonly path: string;
  readonly seconds: number;
  readonly folder: string;
  /** A Lua script for wrk, to vary the path or the body. */
  readonly script?: string;
  readonly connections?: number;
}

/** wrk with one thread and 16 connections. */
export async function load({ server, path: target, seconds, folder, script, connections = 16 }: LoadOptions): Promise<LoadResult> {
  const given = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', '--timeout', '10s'];
  const report =
    'done = function(s, l, r) io.write(string.format("REPORT %d %d %d %d %d %d\\n", s.requests, s.bytes, s.duration, s.errors.status + s.errors.read + s.errors.write + s.errors.timeout + s.errors.connect, l:percentile(50), l:percentile(99))) end';
  const file = path.join(folder, 'wrk.lua');
  writeFileSync(file, `${script ?? ''}\n${report}\n`);
  const used = () => Object.values(server.parts).map(processSeconds);
  const [machineBefore, before] = [machineBusySeconds(), used()];
  const { stdout } = await run('wrk', [...given, '-s', file, server.url + target]);
  const [machineAfter, after] = [machineBusySeconds(), used()];
  const match = /REPORT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(stdout);
  if (match === null) throw new Error(`unexpected output of wrk: ${stdout}`);
  const [requests, bytes, tookMicros, failures, p50, p99] = match.slice(1).map(Number) as [number, number, number, number, number, number];
  const micros = after.map((busy, at) => ((busy - (before[at] as number)) * 1e6) / requests);
  return {
    requests,
    requestsPerSecond: requests / (tookMicros / 1e6),
    bytesPerSecond: bytes / (tookMicros / 1e6),
    machineMicros: ((machineAfter - machineBefore) * 1e6) / requests,
    serverMicros: micros.reduce((sum, part) => sum + part, 0),
    parts: Object.fromEntries(Object.keys(server.parts).map((part, at) => [part, micros[at] as number])),
    p50: milliseconds(p50),
    p99: milliseconds(p99),
    failures,
  };
}

/** The run with less CPU time of the machine, because noise only adds. */
export function better(one: LoadResult, other: LoadResult | undefined): LoadResult {
  return other === undefined || one.machineMicros < other.machineMicros ? one : other;
}

/** Bytes per second of random reads directly from the disk. */
export async function randomReads(options: {
  folder: string;
  blockBytes: number;
  depth: number;
  sizeBytes: number;
  seconds: number;
}): Promise<number> {
  const { folder, blockBytes, depth, sizeBytes, seconds } = options;
  const given = [
    '--name=cold',
    `--filename=${path.join(folder, 'fio.bin')}`,
    '--rw=randread',
    '--direct=1',
    '--ioengine=libaio',
    '--output-format=json',
  ];
  const { stdout } = await run(
    'fio',
    [...given, `--bs=${blockBytes}`, `--iodepth=${depth}`, `--size=${sizeBytes}`, `--runtime=${seconds}`, '--time_based'],
    { maxBuffer: 2 ** 24 },
  );
  const result = JSON.parse(stdout.slice(stdout.indexOf('{'))) as { jobs: [{ read: { bw_bytes: number } }] };
  return result.jobs[0].read.bw_bytes;
}

function milliseconds(micros: number): string {
  return `${(micros / 1000).toFixed(micros < 10_000 ? 2 : 0)} ms`;
}
