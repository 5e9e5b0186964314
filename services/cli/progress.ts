import { SingleBar } from 'cli-progress';
import { formatBytes } from '../shared/format.ts';
import type { Terminal } from './terminal.ts';

/** Without a terminal a line this often is progress enough. */
const lineMs = 5_000;

interface Progress {
  update(objects: number, bytes: number): void;
  stop(): void;
}

interface ByteProgress {
  update(bytes: number): void;
  stop(): void;
}

/** Of many objects: a bar on a terminal, a line every 5 s elsewhere. */
export function startProgress({ label, total, terminal }: { label: string; total: number; terminal: Terminal }): Progress {
  const startedAt = performance.now();
  const rates = (objects: number, bytes: number) => {
    const seconds = Math.max(0.001, (performance.now() - startedAt) / 1000);
    return { rate: Math.round(objects / seconds), throughput: `${formatBytes(bytes / seconds)}/s` };
  };
  if (!terminal.isTerminal) {
    let toldAt = startedAt;
    return {
      update: (objects, bytes) => {
        if (performance.now() - toldAt < lineMs) return;
        toldAt = performance.now();
        const { rate, throughput } = rates(objects, bytes);
        terminal.say(`${label}: ${objects} of ${total}, ${rate} objects/s, ${throughput}`);
      },
      stop: () => undefined,
    };
  }
  const bar = createBar(
    `${label} {bar} {percentage} % · {value}/{total} · {rate} objects/s · {throughput} · {eta_formatted} left`,
    terminal,
  );
  bar.start(total, 0, rates(0, 0));
  return { update: (objects, bytes) => bar.update(objects, rates(objects, bytes)), stop: () => bar.stop() };
}

/** Of one object, on a terminal only; without a total just how much has gone by. */
export function startByteProgress({
  label,
  total,
  terminal,
}: {
  label: string;
  total: number | undefined;
  terminal: Terminal;
}): ByteProgress {
  if (!terminal.isTerminal) return { update: () => undefined, stop: () => undefined };
  const startedAt = performance.now();
  const words = (bytes: number) => ({
    done: formatBytes(bytes),
    throughput: `${formatBytes((bytes * 1000) / Math.max(1, performance.now() - startedAt))}/s`,
  });
  const format =
    total === undefined ? `${label} {done} · {throughput}` : `${label} {bar} {percentage} % · {done} · {throughput} · {eta_formatted} left`;
  const bar = createBar(format, terminal);
  bar.start(total ?? 0, 0, words(0));
  return { update: (bytes) => bar.update(bytes, words(bytes)), stop: () => bar.stop() };
}

function createBar(format: string, { out }: Terminal): SingleBar {
  return new SingleBar({
    format,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    stream: out,
  });
}
