/** The parts of a shard that both HTTP edges use. */
import type { Counters } from '../counters.ts';
import type { Datasets } from '../datasets/datasets.ts';
import type { DiskHealth } from '../disk/disk-health.ts';
import type { SendfileCalls } from '../disk/sendfile-calls.ts';
import type { TimeBudget } from '../disk/time-budget.ts';
import type { Fills } from '../fill/fills.ts';
import type { BufferPool } from '../store/buffer-pool.ts';
import type { Reader } from '../store/reader.ts';
import type { Store } from '../store/store.ts';
import type { Callers } from './callers.ts';
import type { Direct } from './direct.ts';
import type { RequestLog } from './request-log.ts';

export interface ObjectService {
  /** Sent as `x-kura-shard` in every response. */
  readonly name: string;
  readonly store: Store;
  readonly datasets: Datasets;
  readonly reader: Reader;
  readonly buffers: BufferPool;
  readonly counters: Counters;
  /** Undefined if the shard logs no requests. */
  readonly requestLog: RequestLog | undefined;
  readonly callers: Callers;
  /** Undefined if all bodies go through Envoy. */
  readonly direct: Direct | undefined;
  /** Undefined if the shard has no origin service. */
  readonly fills: Fills | undefined;
  /** For direct transfers. Undefined if they are sent through buffers. */
  readonly sendfile: SendfileCalls | undefined;
  readonly budget: TimeBudget;
  readonly readerTimeoutMs: number;
  readonly writerTimeoutMs: number;
  /** Reason why `/healthz` and `/readyz` return 503; undefined while the shard is ready. */
  readonly notReady: () => string | undefined;
  /** True after the drain time that follows SIGTERM. Responses then have `Connection: close`. */
  readonly isClosing: () => boolean;
  readonly health: Pick<DiskHealth, 'note' | 'isReadOnly'>;
}
