/** The bodies of responses under `/datasets/`, as shards and the console write them and as clients read them. */

/** Totals of one data set, or of all keys under a prefix. */
export interface DatasetUse {
  readonly prefix: string;
  readonly objects: number;
  readonly bytes: number;
  readonly hits: number;
  readonly misses: number;
  /** A time in ISO form. */
  readonly lastUsed: string | null;
}

export interface ShardRemoval {
  readonly shard: string;
  /** `pending`: the shard removes, or could not begin. `away`: it does not answer. */
  readonly state: 'done' | 'pending' | 'away';
  readonly removed?: number;
  readonly bytes?: number;
  /** The problem of a shard that could not begin. */
  readonly code?: string;
}

export interface RemovalProgress {
  readonly removal: string;
  readonly prefix: string;
  /** Objects that were stored until then are removed. */
  readonly before: string;
  /** `pending` as long as a shard is not done. */
  readonly state: 'done' | 'pending';
  readonly removed: number;
  readonly bytes: number;
  readonly shards: readonly ShardRemoval[];
}
