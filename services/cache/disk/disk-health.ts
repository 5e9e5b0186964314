/** Counts the faults of the disk, probes it, and decides whether the shard is ready. */
import type { Counters } from '../counters.ts';
import { type FaultKind, faultKind } from './files.ts';

/** After this many faults within the span, the shard is not ready until a probe succeeds. */
const maxFaults = 8;
const spanMs = 60_000;
/** After faults, the shard stays out of service for at least this time. */
const minOutMs = 5_000;
/** Interval of the probes, and the time after which a probe counts as hung. */
const probeMs = 1_000;
const maxProbeMs = 2_000;

/** Receives the faults of the file system. */
export interface FaultSink {
  note(error: unknown, operation: 'read' | 'write'): void;
}

interface DiskHealthOptions {
  readonly counters: Counters;
  /** Writes, reads and removes a small file through the same thread pool as requests. Rejects while the disk fails. */
  readonly probe: () => Promise<void>;
  /** Another program fills the disk: the shard must use less for a while. */
  readonly onFull: () => void;
  /** A folder is missing, so uploads fail. */
  readonly onMissingFolder: () => void;
  /** Called with the reason when the shard leaves service, and with undefined when it returns. */
  readonly onChange: (problem: string | undefined, error?: unknown) => void;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

export class DiskHealth implements FaultSink {
  /** The file system is read-only: the shard serves reads and rejects changes. */
  isReadOnly = false;
  /** Reason why the shard is not ready; undefined while it is ready. */
  problem: string | undefined;
  readonly #options: DiskHealthOptions;
  #faults: number[] = [];
  #outUntilMs = 0;
  #probeStartedMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: DiskHealthOptions) {
    this.#options = options;
  }

  /** Probes the disk every second until `close`. */
  start(): void {
    this.#timer = setInterval(() => this.#look(), probeMs);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  note(error: unknown, operation: 'read' | 'write'): void {
    const kind: FaultKind = faultKind(error);
    const { diskErrors } = this.#options.counters;
    switch (kind) {
      case 'absent':
        // For a read, the object is missing: a miss. For a write, its folder is missing.
        if (operation === 'read') return;
        diskErrors.write += 1;
        this.#options.onMissingFolder();
        this.#noteFault(error);
        return;
      case 'full':
        diskErrors.full += 1;
        this.#options.onFull();
        return;
      case 'descriptors':
        diskErrors.descriptors += 1;
        return;
      case 'timeout':
        // The probe decides whether the disk hangs.
        diskErrors.timeout += 1;
        return;
      case 'read-only':
        diskErrors.write += 1;
        this.isReadOnly = true;
        return;
      case 'disk':
        diskErrors[operation] += 1;
        this.#noteFault(error);
        return;
      default:
        kind satisfies never;
    }
  }

  #look(): void {
    const now = this.#options.now();
    if (this.#probeStartedMs === undefined) this.#probe(now);
    else if (now - this.#probeStartedMs > maxProbeMs) this.#change('the disk does not answer');
  }

  #probe(now: number): void {
    this.#probeStartedMs = now;
    this.#options.probe().then(
      () => {
        this.#probeStartedMs = undefined;
        this.isReadOnly = false;
        this.#recover();
      },
      (error: unknown) => {
        this.#probeStartedMs = undefined;
        this.note(error, 'write');
        // The disk responds: it is only read-only or full.
        if (faultKind(error) === 'read-only' || faultKind(error) === 'full') this.#recover();
      },
    );
  }

  #noteFault(error: unknown): void {
    const now = this.#options.now();
    this.#faults = [...this.#faults.filter((at) => now - at < spanMs), now].slice(-maxFaults);
    if (this.#faults.length < maxFaults) return;
    this.#outUntilMs = now + minOutMs;
    this.#change('the disk keeps failing', error);
  }

  #recover(): void {
    if (this.#options.now() < this.#outUntilMs) return;
    if (this.problem !== undefined) this.#faults = [];
    this.#change(undefined);
  }

  #change(problem: string | undefined, error?: unknown): void {
    if ((this.problem === undefined) === (problem === undefined)) return;
    this.problem = problem;
    this.#options.onChange(problem, error);
  }
}
