/** What both HTTP edges of a shard work with. */

import type { Counters } from '../counters.ts';
import type { DiskHealth } from '../disk/disk-health.ts';
import type { TimeBudget } from '../disk/time-budget.ts';
import type { BufferPool } from '../store/buffer-pool.ts';
import type { Reader } from '../store/reader.ts';
import type { Store } from '../store/store.ts';
import type { Callers } from './callers.ts';
import type { Direct } from './direct.ts';

export interface ObjectService {
  /** Sent as `x-kura-shard` on every answer. */
  readonly name: string;
  readonly store: Store;
  readonly reader: Reader;
  readonly buffers: BufferPool;
  readonly counters: Counters;
  readonly callers: Callers;
  /** Undefined where bodies go through Envoy only. */
  readonly direct: Direct | undefined;
  readonly budget: TimeBudget;
  readonly readerTimeoutMs: number;
  readonly writerTimeoutMs: number;
  /** Undefined while traffic is wanted, otherwise why not: for `/healthz` and `/readyz`. */
  readonly notReady: () => string | undefined;
  /** After SIGTERM's drain time: answers carry `Connection: close`. */
  readonly isClosing: () => boolean;
  readonly health: Pick<DiskHealth, 'note' | 'isReadOnly'>;
}
