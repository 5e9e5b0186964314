/** Counts what the disk does wrong and says when it is not fit to serve. */

import type { Counters } from '../counters.ts';
import { type FaultKind, faultKind } from './files.ts';

/** So many faults within the span, and the shard leaves service until the disk has answered a probe. */
const maxFaults = 8;
const spanMs = 60_000;
/** How often a failing disk is tried again. */
const probeMs = 5_000;

/** Where a fault of the file system is reported. */
export interface FaultSink {
  note(error: unknown, operation: 'read' | 'write'): void;
}

interface DiskHealthOptions {
  readonly counters: Counters;
  /** Writes, reads and removes a small file; rejects while the disk fails. */
  readonly probe: () => Promise<void>;
  /** Somebody else fills the disk: the shard has to be smaller for a while. */
  readonly onFull: () => void;
  readonly onChange: (isFailing: boolean, error?: unknown) => void;
}

export class DiskHealth implements FaultSink {
  isFailing = false;
  readonly #options: DiskHealthOptions;
  #faults: number[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: DiskHealthOptions) {
    this.#options = options;
  }

  note(error: unknown, operation: 'read' | 'write'): void {
    const kind: FaultKind = faultKind(error);
    const { diskErrors } = this.#options.counters;
    switch (kind) {
      case 'absent':
        return;
      case 'full':
        diskErrors.full += 1;
        this.#options.onFull();
        return;
      case 'descriptors':
        diskErrors.descriptors += 1;
        return;
      case 'disk':
        diskErrors[operation] += 1;
        this.#noteFault(error);
        return;
      default:
        kind satisfies never;
    }
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #noteFault(error: unknown): void {
    const now = performance.now();
    this.#faults = [...this.#faults.filter((at) => now - at < spanMs), now].slice(-maxFaults);
    if (this.isFailing || this.#faults.length < maxFaults) return;
    this.isFailing = true;
    this.#options.onChange(true, error);
    this.#probeLater();
  }

  #probeLater(): void {
    this.#timer = setTimeout(() => {
      this.#options.probe().then(
        () => {
          this.isFailing = false;
          this.#faults = [];
          this.#options.onChange(false);
        },
        () => this.#probeLater(),
      );
    }, probeMs);
  }
}
