/** Reads the metrics of all parts, round by round: a few at a time, each with a deadline. */

import { readShardNumbers, type ShardNumbers } from '../../shared/shard-numbers.ts';
import type { Cluster } from './cluster.ts';
import type { History } from './history.ts';
import { type PageAddress, readPage } from './page-text.ts';
import { type AuthzReading, type EdsReading, type EnvoyReading, envoyMetricsPath, readAuthz, readEds, readEnvoy } from './part-readings.ts';
import type { Part } from './parts.ts';
import { readStart, readVersion } from './samples.ts';

interface ShardReading {
  readonly numbers: ShardNumbers;
  readonly version: string | undefined;
}

interface CollectorOptions {
  readonly cluster: Pick<Cluster, 'shards' | 'parts'>;
  readonly history: History;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
  /** Deadline for the pages of one part. */
  readonly maxAnswerMs?: number;
}

interface Target {
  /** Unique, and the same in each round. */
  readonly id: string;
  readonly read: (signal: AbortSignal) => Promise<void>;
  readonly forget: () => void;
}

const defaultMaxAnswerMs = 2_000;
const maxConcurrent = 8;
/** Parts without an answer to the last request that one round asks again. More of them would delay the round by minutes. */
const maxSilentAsked = 32;
/** All parts of a new system start in this time. Their counts since their start belong to the history. */
const maxStartMs = 10_000;
/** Names of namespaces that are kept beyond their use. */
const maxNames = 10_000;

export class Collector {
  readonly shards = new Map<string, ShardReading>();
  readonly eds = new Map<string, EdsReading>();
  readonly authz = new Map<string, AuthzReading>();
  readonly envoys = new Map<string, EnvoyReading>();
  /** Versions of the other parts. */
  readonly others = new Map<string, string>();
  /** When the last round ended. */
  endedAt: Date | undefined;
  readonly #options: CollectorOptions;
  readonly #silent = new Set<string>();
  /** Names of namespaces, which all shards share. */
  readonly #names = new Map<string, string>();

  /** When this collector began. */
  readonly #startedAt: number;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.#startedAt = options.now();
  }

  /** What eds sends to the Envoys. Replicas agree, except for a moment after a change. */
  get assignment(): EdsReading['assignment'] | undefined {
    const all = [...this.eds.values()].map(({ assignment }) => assignment);
    return all.find(({ isStale }) => !isStale) ?? all[0];
  }

  /** Parts that answered the last request, and those that did not. */
  get answers(): { answering: number; silent: number } {
    const answering = this.shards.size + this.eds.size + this.authz.size + this.envoys.size + this.others.size;
    return { answering, silent: this.#silent.size };
  }

  /** Reads everything once. Does not reject. */
  async round(signal: AbortSignal): Promise<void> {
    const { cluster, history, now } = this.#options;
    const shards = cluster.shards(this.assignment?.identity ?? 'pod');
    const targets = [...cluster.parts.map((part) => this.#partTarget(part)), ...shards.map((shard) => this.#shardTarget(shard))];
    const ids = new Set(targets.map(({ id }) => id));
    history.keepOnly(ids);
    for (const [kind, map] of Object.entries({ shard: this.shards, eds: this.eds, authz: this.authz, envoy: this.envoys })) {
      for (const name of map.keys()) if (!ids.has(`${kind}/${name}`)) map.delete(name);
    }
    for (const id of this.#silent) if (!ids.has(id)) this.#silent.delete(id);
    for (const id of this.others.keys()) if (!ids.has(id)) this.others.delete(id);
    if (this.#names.size > maxNames) this.#names.clear();
    const asked = this.#inOrder(targets);
    const askNext = async (): Promise<void> => {
      for (let target = asked.shift(); target !== undefined && !signal.aborted; target = asked.shift()) await this.#ask(target, signal);
    };
    await Promise.all(Array.from({ length: maxConcurrent }, askNext));
    this.endedAt = new Date(now());
  }

  /** Those that answered come first. Of the silent ones, those that have waited longest. */
  #inOrder(targets: readonly Target[]): Target[] {
    const byId = new Map(targets.map((target) => [target.id, target]));
    const silent = [...this.#silent].slice(0, maxSilentAsked).map((id) => byId.get(id) as Target);
    return [...targets.filter(({ id }) => !this.#silent.has(id)), ...silent];
  }

  async #ask({ id, read, forget }: Target, signal: AbortSignal): Promise<void> {
    const { maxAnswerMs = defaultMaxAnswerMs } = this.#options;
    this.#silent.delete(id);
    try {
      await read(AbortSignal.any([signal, AbortSignal.timeout(maxAnswerMs)]));
    } catch {
      forget();
      this.#silent.add(id);
    }
  }

  #shardTarget({ hashKey, address, metricsPort }: { hashKey: string; address: string; metricsPort: number }): Target {
    const id = `shard/${hashKey}`;
    return {
      id,
      forget: () => this.shards.delete(hashKey),
      read: async (signal) => {
        const text = await readPage({ address, port: metricsPort, path: '/metrics' }, signal);
        const numbers = readShardNumbers(text, this.#names);
        if (numbers === undefined) throw new Error('the page is not that of a shard');
        this.shards.set(hashKey, { numbers, version: readVersion(text) });
        this.#count(id, numbers.totals, text);
      },
    };
  }

  #partTarget({ kind, name, address, port }: Part): Target {
    const id = `${kind}/${name}`;
    const page = (path: string): PageAddress => ({ address, port, path });
    switch (kind) {
      case 'eds':
        return {
          id,
          forget: () => this.eds.delete(name),
          read: async (signal) => {
            const metrics = await readPage(page('/metrics'), signal);
            const assignment = await readPage(page('/debug/assignment'), signal);
            const streams = await readPage(page('/debug/streams'), signal);
            this.eds.set(name, readEds({ metrics, assignment, streams }));
          },
        };
      case 'authz':
        return {
          id,
          forget: () => this.authz.delete(name),
          read: async (signal) => {
            const metrics = await readPage(page('/metrics'), signal);
            const reading = readAuthz({ metrics, policy: await readPage(page('/debug/policy'), signal) });
            this.authz.set(name, reading);
            this.#count(id, reading.counts, metrics);
          },
        };
      case 'envoy':
        return {
          id,
          forget: () => this.envoys.delete(name),
          read: async (signal) => {
            const metrics = await readPage(page(envoyMetricsPath), signal);
            const reading = readEnvoy(metrics);
            this.envoys.set(name, reading);
            this.#count(id, reading.counts, metrics);
          },
        };
      case 'origin':
      case 'console':
        return {
          id,
          forget: () => this.others.delete(id),
          read: async (signal) => {
            this.others.set(id, readVersion(await readPage(page('/metrics'), signal)) ?? '');
          },
        };
      default:
        return kind satisfies never;
    }
  }

  #count(source: string, counts: Readonly<Record<string, number>>, metrics: string): void {
    const now = this.#options.now();
    const startedAt = readStart(metrics, now);
    this.#options.history.take(source, counts, now, startedAt !== undefined && startedAt > this.#startedAt - maxStartMs);
  }
}
