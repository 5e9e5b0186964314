/** The result table of a benchmark. */
import { cpus, totalmem } from 'node:os';
import type { LoadResult } from './load.ts';

export interface Row {
  readonly what: string;
  readonly bound: string;
  readonly result: string;
  /** Undefined when it was not measured or has no bound. */
  readonly isMet: boolean | undefined;
  readonly details: string;
}

/** Texts for a comparison other than a server with nginx. */
interface Words {
  /** Name of the baseline in the bound. */
  readonly yardstick: string;
  readonly theirs: string;
  /** The process whose CPU appears in brackets. */
  readonly own: string;
}

/** Compares kura with a baseline by the machine's CPU per request. */
export function compare(
  what: string,
  bound: number | undefined,
  { ours, theirs, words = { yardstick: 'nginx', theirs: 'nginx', own: 'own' } }: { ours: LoadResult; theirs: LoadResult; words?: Words },
): Row {
  const ratio = ours.machineMicros / theirs.machineMicros;
  const show = ({ machineMicros, serverMicros, requestsPerSecond, p50, p99, failures }: LoadResult) =>
    `${machineMicros.toFixed(0)} µs (${words.own} ${serverMicros.toFixed(0)}), ${requestsPerSecond.toFixed(0)} req/s, p50 ${p50}, p99 ${p99}${failures > 0 ? `, ${failures} failures` : ''}`;
  return {
    what,
    bound: bound === undefined ? '–' : `<= ${bound.toFixed(1)} × ${words.yardstick}`,
    result: `${ratio.toFixed(2)} ×`,
    isMet: bound === undefined ? undefined : ratio <= bound && ours.failures === 0,
    details: `kura ${show(ours)}; ${words.theirs} ${show(theirs)}`,
  };
}

export function printTable(rows: readonly Row[], { isQuick, cpu = 'the whole machine' }: { isQuick: boolean; cpu?: string }): void {
  const memory = (totalmem() / 2 ** 30).toFixed(0);
  const day = new Date().toISOString().slice(0, 10);
  console.log(
    `\n${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${memory} GiB, Node ${process.version}, ${day}${isQuick ? ', quick run' : ''}\n`,
  );
  console.log(`| case | bound | measured | met | details (CPU of ${cpu} per request) |\n| --- | --- | --- | --- | --- |`);
  for (const { what, bound, result, isMet, details } of rows) {
    console.log(`| ${what} | ${bound} | ${result} | ${isMet === undefined ? '–' : isMet ? 'yes' : '**no**'} | ${details} |`);
  }
}
