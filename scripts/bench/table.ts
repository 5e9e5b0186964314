/** The result table of a bench. */
import { cpus, totalmem } from 'node:os';
import type { LoadResult } from './load.ts';

export interface Row {
  readonly what: string;
  readonly bound: string;
  readonly result: string;
  /** Undefined if the case was not measured or has no bound. */
  readonly isMet: boolean | undefined;
  readonly details: string;
}

/** The labels of a comparison, if it is not a server with nginx. */
interface Labels {
  /** Names the baseline in the bound. */
  readonly baseline: string;
  readonly theirs: string;
}

/** Compares kura with a baseline, by the CPU of the servers per request. The ratio of the whole machine includes the client. */
export function compare(
  what: string,
  bound: number | undefined,
  { ours, theirs, labels = { baseline: 'nginx', theirs: 'nginx' } }: { ours: LoadResult; theirs: LoadResult; labels?: Labels },
): Row {
  const ratio = ours.serverMicros / theirs.serverMicros;
  return {
    what,
    bound: bound === undefined ? '–' : `<= ${bound} × ${labels.baseline}`,
    result: `${ratio.toFixed(2)} × (machine ${(ours.machineMicros / theirs.machineMicros).toFixed(2)} ×)`,
    isMet: bound === undefined ? undefined : ratio <= bound && ours.failures === 0,
    details: `kura ${describe(ours)}; ${labels.theirs} ${describe(theirs)}`,
  };
}

/** A further yardstick for a case whose row has the figures of kura. */
export function against(what: string, name: string, { ours, theirs }: { ours: LoadResult; theirs: LoadResult }): Row {
  const row = compare(`${what}, against ${name}`, undefined, { ours, theirs });
  return { ...row, details: `${name} ${describe(theirs)}` };
}

export function describe({ machineMicros, serverMicros, parts, requestsPerSecond, p50, p99, failures }: LoadResult): string {
  const each = Object.entries(parts).map(([part, micros]) => `${part} ${micros.toFixed(0)}`);
  const sum = `${serverMicros.toFixed(0)} µs${each.length > 1 ? ` (${each.join(', ')})` : ''}, machine ${machineMicros.toFixed(0)} µs`;
  const failed = failures > 0 ? `, ${failures} failures` : '';
  return `${sum}, ${requestsPerSecond.toFixed(requestsPerSecond < 100 ? 1 : 0)} req/s, p50 ${p50}, p99 ${p99}${failed}`;
}

export function printTable(
  rows: readonly Row[],
  { isQuick, cpu = 'the servers, and of the whole machine,' }: { isQuick: boolean; cpu?: string },
): void {
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  const day = new Date().toISOString().slice(0, 10);
  console.log(
    `\n${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${memory} GiB, Node ${process.version}, ${day}${isQuick ? ', quick run' : ''}\n`,
  );
  console.log(`| case | bound | measured | met | details (CPU of ${cpu} a request) |\n| --- | --- | --- | --- | --- |`);
  for (const { what, bound, result, isMet, details } of rows) {
    console.log(`| ${what} | ${bound} | ${result} | ${isMet === undefined ? '–' : isMet ? 'yes' : '**no**'} | ${details} |`);
  }
}
