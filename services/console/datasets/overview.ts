/** The largest data sets of all shards, for the status page. */

import type { DatasetUse } from '../../shared/datasets-api.ts';
import { each } from './each-shard.ts';
import type { ShardClient, ShardPlace } from './shard-client.ts';
import { TotalsSum } from './totals.ts';

interface OverviewOptions {
  readonly client: Pick<ShardClient, 'totals'>;
  readonly shards: () => readonly ShardPlace[];
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

export interface DatasetsOverview {
  readonly at: Date;
  readonly complete: boolean;
  /** The largest first. */
  readonly rows: readonly DatasetUse[];
}

/** A shard needs up to 50 ms for its totals. */
const maxAgeMs = 30_000;
const maxRows = 100;

export class Overview {
  readonly #options: OverviewOptions;
  #current: DatasetsOverview | undefined;

  constructor(options: OverviewOptions) {
    this.#options = options;
  }

  /** Undefined before somebody looks. */
  get current(): DatasetsOverview | undefined {
    return this.#current;
  }

  /** Asks the shards, unless the overview is new. Does not reject. */
  async refresh(): Promise<void> {
    const { client, shards, now } = this.#options;
    if (this.#current !== undefined && now() - this.#current.at.getTime() < maxAgeMs) return;
    const sum = new TotalsSum('');
    await each(shards(), async (shard) => {
      sum.add({ shard: shard.hashKey, result: await client.totals(shard, '').catch(() => undefined) });
    });
    const { complete, children } = sum.result();
    this.#current = { at: new Date(now()), complete, rows: children.slice(0, maxRows) };
  }
}
