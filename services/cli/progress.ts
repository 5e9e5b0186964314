import type { Writable } from 'node:stream';
import { SingleBar } from 'cli-progress';
import { formatBytes } from './units.ts';

/** Without a terminal a line this often is progress enough. */
const lineMs = 5_000;

export interface Progress {
  update(objects: number, bytes: number): void;
  stop(): void;
}

/** A bar on a terminal, a line every 5 s elsewhere. */
export function startProgress({
  label,
  total,
  out,
  isTerminal,
}: {
  label: string;
  total: number;
  out: Writable;
  isTerminal: boolean;
}): Progress {
  const startedAt = performance.now();
  const rates = (objects: number, bytes: number) => {
    const seconds = Math.max(0.001, (performance.now() - startedAt) / 1000);
    return { rate: Math.round(objects / seconds), throughput: `${formatBytes(bytes / seconds)}/s` };
  };
  if (!isTerminal) {
    let toldAt = startedAt;
    return {
      update: (objects, bytes) => {
        if (performance.now() - toldAt < lineMs) return;
        toldAt = performance.now();
        const { rate, throughput } = rates(objects, bytes);
        out.write(`${label}: ${objects} of ${total}, ${rate} objects/s, ${throughput}\n`);
      },
      stop: () => undefined,
    };
  }
  const format = `${label} {bar} {percentage} % · {value}/{total} · {rate} objects/s · {throughput} · {eta_formatted} left`;
  const bar = new SingleBar({
    format,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    stream: out,
  });
  bar.start(total, 0, rates(0, 0));
  return { update: (objects, bytes) => bar.update(objects, rates(objects, bytes)), stop: () => bar.stop() };
}
