/** Several shards in one Pod: a small parent that starts one process for each, restarts what crashes and passes signals on. */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ListenAddress, type Settings, SettingsError } from '../shared/environment.ts';
import type { Running } from '../shared/lifecycle.ts';
import { formatAddress } from '../shared/listen.ts';
import type { Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { SupervisedChild } from '../shared/supervise.ts';
import { settingPrefix, type settings } from './config.ts';

const backoff = { firstMs: 500, maxMs: 30_000, stableMs: 60_000 };
/** How often each shard is asked whether it serves, and how long it may take to say so. */
const lookMs = 1_000;
/** What a shard may take beyond its drain and grace, for its snapshot. */
const closeMs = 60_000;

interface ShardPlan {
  readonly number: number;
  readonly directory: string;
  /** Settings that differ from the parent's own environment. */
  readonly environment: Readonly<Record<string, string>>;
}

/** What each shard of the Pod is given: its directory, name and ports. Throws SettingsError for settings that do not fit. */
export function planShards(config: Settings<typeof settings>): ShardPlan[] {
  const listed = config.directories?.split(',').map((directory) => directory.trim());
  if (listed !== undefined && listed.length !== config.shards)
    throw new SettingsError(`KURA_CACHE_DIRECTORIES names ${listed.length} directories for ${config.shards} shards`);
  if (listed !== undefined && new Set(listed).size !== listed.length)
    throw new SettingsError('KURA_CACHE_DIRECTORIES names a directory twice');
  if (listed === undefined && config.directory === undefined) throw new SettingsError('KURA_CACHE_DIRECTORIES must be set');
  const directories =
    listed ?? Array.from({ length: config.shards }, (_, number) => path.join(config.directory as string, `shard-${number}`));
  const devices = directories.map(deviceOf);
  return directories.map((directory, number) => ({
    number,
    directory,
    environment: {
      [`${settingPrefix}DIRECTORY`]: directory,
      [`${settingPrefix}LISTEN`]: address(config.listen, number),
      [`${settingPrefix}METRICS_LISTEN`]: address(config.metricsListen, number),
      ...(config.advertise?.port === undefined
        ? {}
        : { [`${settingPrefix}ADVERTISE`]: address({ ...config.advertise, port: config.advertise.port }, number) }),
      [`${settingPrefix}DEVICE_SHARDS`]: String(devices.filter((device) => device === devices[number]).length),
      ...(config.name === undefined ? {} : { [`${settingPrefix}NAME`]: `${config.name}/shard-${number}` }),
    },
  }));
}

interface ShardsOptions {
  readonly plans: readonly ShardPlan[];
  /** The program of one shard. */
  readonly program: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly healthAddress: ListenAddress;
  /** Drain and grace of a shard together. */
  readonly stopMs: number;
  readonly log: Logger;
}

/** Starts all shards and resolves when each serves or has failed once; those that failed are tried again. */
export async function startShards(options: ShardsOptions): Promise<Running> {
  const shards = options.plans.map((plan) => new ShardProcess(plan, options));
  let isStopping = false;
  const notReady = () => (isStopping ? 'stopping' : shards.some((shard) => shard.isServing) ? undefined : 'no shard serves');
  const health = await startMetricsServer({ address: options.healthAddress, registry: createRegistry(), notReady });
  await Promise.all(shards.map((shard) => shard.start()));
  const looking = new AbortController();
  for (const shard of shards) void shard.watch(looking.signal);
  const listening: Record<string, string> = { health: health.address };
  for (const { plan, objects, metrics } of shards) {
    if (objects !== undefined) listening[`objects-${plan.number}`] = objects;
    if (metrics !== undefined) listening[`metrics-${plan.number}`] = metrics;
  }
  return {
    listening,
    close: async () => {
      isStopping = true;
      looking.abort();
      await Promise.all(shards.map((shard) => shard.stop()));
      await health.close();
    },
  };
}

class ShardProcess {
  readonly plan: ShardPlan;
  objects: string | undefined;
  metrics: string | undefined;
  /** The answer of its own `/readyz`: false while it starts, hangs, or its disk keeps failing. */
  isServing = false;
  readonly #child: SupervisedChild;

  constructor(plan: ShardPlan, { program, environment, stopMs, log }: ShardsOptions) {
    this.plan = plan;
    this.#child = new SupervisedChild({
      name: `shard ${plan.number}`,
      command: () => ({ file: process.execPath, args: [program], env: { ...environment, ...plan.environment } }),
      output: 'inherit',
      hasOwnGroup: false,
      backoff,
      // Recovery of a large directory may take long.
      maxStartMs: undefined,
      maxStopMs: stopMs + closeMs,
      onReady: ({ listening }) => {
        this.objects = listening.objects;
        this.metrics = listening.metrics;
        this.isServing = true;
      },
      onEnd: ({ status, signal, backoffMs }) => {
        this.objects = undefined;
        this.metrics = undefined;
        this.isServing = false;
        log.error({ shard: plan.number, status, signal, backoffMs }, 'a shard ended: starting it again');
      },
      onFault: (error) => log.error({ shard: plan.number, reason: error.message }, 'a shard did not start'),
    });
  }

  /** Resolves when the shard serves or its process has ended. */
  async start(): Promise<void> {
    await this.#child.start({ mustServe: false });
  }

  /** Looks again and again until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(lookMs, undefined, { signal }).catch(() => undefined);
      const { metrics } = this;
      if (metrics === undefined || signal.aborted) continue;
      const isReady = await fetch(`http://${metrics}/readyz`, { signal: AbortSignal.timeout(lookMs) }).then(
        async (answer) => {
          await answer.arrayBuffer();
          return answer.ok;
        },
        () => false,
      );
      // It may have ended and come back meanwhile.
      if (this.metrics === metrics) this.isServing = isReady;
    }
  }

  async stop(): Promise<void> {
    await this.#child.stop();
  }
}

/** The device of a directory, which is made when it does not exist. */
function deviceOf(directory: string): number {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return statSync(directory).dev;
  } catch (error) {
    throw new SettingsError((error as Error).message, { cause: error });
  }
}

/** Shard i listens i ports higher; port 0 stays "any". */
function address(base: ListenAddress, number: number): string {
  return formatAddress({ host: base.host, port: base.port === 0 ? 0 : base.port + number });
}
