/** Progress of transfers. */
import { SingleBar } from 'cli-progress';
import { formatBytes } from '../../shared/format.ts';
import type { Terminal } from './terminal.ts';

/** Without a terminal, a line is printed at this interval. */
const lineIntervalMs = 5_000;

interface Progress {
  update(objects: number, bytes: number): void;
  stop(): void;
}

interface ByteProgress {
  update(bytes: number): void;
  stop(): void;
}

/** Shows the progress of many objects: a bar on a terminal, a line every 5 s elsewhere. */
export function startProgress({ label, total, terminal }: { label: string; total: number; terminal: Terminal }): Progress {
  const startedAt = performance.now();
  const rates = (objects: number, bytes: number) => {
    const seconds = Math.max(0.001, (performance.now() - startedAt) / 1000);
    return { rate: Math.round(objects / seconds), throughput: `${formatBytes(bytes / seconds)}/s` };
  };
  if (!terminal.isTerminal) {
    let printedAt = startedAt;
    return {
      update: (objects, bytes) => {
        if (performance.now() - printedAt < lineIntervalMs) return;
        printedAt = performance.now();
        const { rate, throughput } = rates(objects, bytes);
        terminal.print(`${label}: ${objects} of ${total}, ${rate} objects/s, ${throughput}`);
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

/** Shows the progress of one object, on a terminal only. Without a total it shows only the transferred bytes. */
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
  const values = (bytes: number) => ({
    done: formatBytes(bytes),
    throughput: `${formatBytes((bytes * 1000) / Math.max(1, performance.now() - startedAt))}/s`,
  });
  const share = total === undefined ? '' : '{bar} {percentage} % · ';
  const format = `${label} ${share}{done} · {throughput}${total === undefined ? '' : ' · {eta_formatted} left'}`;
  const bar = createBar(format, terminal);
  bar.start(total ?? 0, 0, values(0));
  return { update: (bytes) => bar.update(bytes, values(bytes)), stop: () => bar.stop() };
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
