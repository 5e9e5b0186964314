/** Progress of transfers: a bar on a terminal. Elsewhere, a line every 5 s for many objects, and nothing for one object. */
import { SingleBar } from 'cli-progress';
import { type Amount, AverageRate } from '../../shared/average-rate.ts';
import { progressLine, progressLogLine } from './progress-line.ts';
import type { Terminal } from './terminal.ts';

const logIntervalMs = 5_000;
const redrawsPerSecond = 5;

interface ProgressOptions {
  readonly label: string;
  /** Undefined for a stream of unknown length. With 0 objects, it is one object that is counted in bytes. */
  readonly total: Amount | undefined;
  /** What was transferred before. */
  readonly done?: Amount;
  readonly waitReason: () => string;
  readonly terminal: Terminal;
}

interface Progress {
  /** `total` replaces the former one, for a transfer whose end is not known at its start. */
  update(done: Amount, total?: Amount): void;
  stop(): void;
}

export function startProgress({
  label,
  total: first,
  waitReason,
  terminal,
  done: before = { objects: 0, bytes: 0 },
}: ProgressOptions): Progress {
  let [done, total] = [before, first];
  const rate = new AverageRate(performance.now(), before);
  const update = (now: Amount, newTotal?: Amount): void => {
    done = now;
    total = newTotal ?? total;
    rate.add(performance.now(), now);
  };
  const state = () => {
    const now = performance.now();
    const secondsLeft = total === undefined ? undefined : rate.secondsLeft(now, total);
    return { label, done, total, perSecond: rate.perSecond(now), secondsLeft, waitReason: waitReason() };
  };
  if (!terminal.isTerminal) {
    if (!total?.objects) return { update, stop: () => undefined };
    const timer = setInterval(() => terminal.print(progressLogLine(state())), logIntervalMs);
    return { update, stop: () => clearInterval(timer) };
  }
  const bar = new SingleBar({
    // The bar redraws itself, also while nothing is transferred.
    format: () => progressLine(state(), terminal.columns),
    fps: redrawsPerSecond,
    hideCursor: true,
    clearOnComplete: true,
    stream: terminal.out as NodeJS.WritableStream,
  });
  bar.start(1, 0);
  return { update, stop: () => bar.stop() };
}
