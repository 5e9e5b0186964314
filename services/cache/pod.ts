/** The parent of several shards in one Pod. It starts one process for each shard, restarts a shard that ends, and stops all shards. */
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ListenAddress, type Settings, SettingsError } from '../shared/environment.ts';
import type { Running } from '../shared/lifecycle.ts';
import { formatAddress } from '../shared/listen.ts';
import type { Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { nodeFlags } from '../shared/node-flags.ts';
import { SupervisedChild } from '../shared/supervise.ts';
import { settingPrefix, type settings } from './config.ts';

const backoff = { firstMs: 500, maxMs: 30_000, stableMs: 60_000 };
/** Interval and timeout of the readiness requests to each shard. */
const pollMs = 1_000;
/** Time that a shard may take after its drain and grace, for its snapshot. */
const closeMs = 60_000;

interface ShardPlan {
  readonly number: number;
  readonly directory: string;
  /** Settings that differ from the parent's own environment. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Plans the directory, name and ports of each shard. Throws SettingsError if the settings contradict each other. */
export function planShards(config: Settings<typeof settings>): ShardPlan[] {
  const listed = config.directories?.split(',').map((directory) => path.resolve(directory.trim()));
  if (listed !== undefined && listed.length !== config.shards)
    throw new SettingsError(`KURA_CACHE_DIRECTORIES has ${listed.length} directories for ${config.shards} shards; set one for each shard`);
  const twice = listed?.find((directory, index) => listed.indexOf(directory) !== index);
  if (twice !== undefined) throw new SettingsError(`KURA_CACHE_DIRECTORIES has ${twice} twice; set a different directory for each shard`);
  if (listed === undefined && config.directory === undefined)
    throw new SettingsError('neither KURA_CACHE_DIRECTORY nor KURA_CACHE_DIRECTORIES is set; set one of them');
  const directories =
    listed ?? Array.from({ length: config.shards }, (_, number) => path.join(config.directory as string, `shard-${number}`));
  const devices = directories.map((directory) => deviceOf(directory, config.marker));
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

/** Starts all shards. Resolves when each shard serves or has ended once. A shard that has ended is started again. */
export async function startShards(options: ShardsOptions): Promise<Running> {
  const shards = options.plans.map((plan) => new ShardProcess(plan, options));
  let isStopping = false;
  const notReady = () => (isStopping ? 'stopping' : shards.some((shard) => shard.isServing) ? undefined : 'no shard serves');
  const health = await startMetricsServer({ address: options.healthAddress, registry: createRegistry(), notReady });
  await Promise.all(shards.map((shard) => shard.start()));
  const polling = new AbortController();
  for (const shard of shards) void shard.watch(polling.signal);
  const listening: Record<string, string> = { health: health.address };
  for (const { plan, objects, metrics } of shards) {
    if (objects !== undefined) listening[`objects-${plan.number}`] = objects;
    if (metrics !== undefined) listening[`metrics-${plan.number}`] = metrics;
  }
  return {
    listening,
    close: async () => {
      isStopping = true;
      polling.abort();
      await Promise.all(shards.map((shard) => shard.stop()));
      await health.close();
    },
  };
}

class ShardProcess {
  readonly plan: ShardPlan;
  objects: string | undefined;
  metrics: string | undefined;
  /** The last result of its `/readyz`: false while it starts, hangs, or its disk keeps failing. */
  isServing = false;
  readonly #child: SupervisedChild;

  constructor(plan: ShardPlan, { program, environment, stopMs, log }: ShardsOptions) {
    this.plan = plan;
    this.#child = new SupervisedChild({
      name: `shard ${plan.number}`,
      command: () => ({ file: process.execPath, args: [...nodeFlags, program], env: { ...environment, ...plan.environment } }),
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
        log.error({ shard: plan.number, status, signal, backoffMs }, 'a shard ended; restarting it');
      },
      onFault: (error) => log.error({ shard: plan.number, reason: error.message }, 'a shard did not start'),
    });
  }

  /** Resolves when the shard serves or its process has ended. */
  async start(): Promise<void> {
    await this.#child.start({ mustServe: false });
  }

  /** Polls `/readyz` until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await delay(pollMs, undefined, { signal }).catch(() => undefined);
      const { metrics } = this;
      if (metrics === undefined || signal.aborted) continue;
      const isReady = await fetch(`http://${metrics}/readyz`, { signal: AbortSignal.timeout(pollMs) }).then(
        async (response) => {
          await response.arrayBuffer();
          return response.ok;
        },
        () => false,
      );
      // The shard may have restarted during the request.
      if (this.metrics === metrics) this.isServing = isReady;
    }
  }

  async stop(): Promise<void> {
    await this.#child.stop();
  }
}

/** Creates the directory if it does not exist. With a marker it must exist: a missing one has no device, and its shard reports why. */
function deviceOf(directory: string, marker: string | undefined): number | string {
  try {
    if (marker !== undefined) return statSync(directory, { throwIfNoEntry: false })?.dev ?? directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return statSync(directory).dev;
  } catch (error) {
    throw new SettingsError((error as Error).message, { cause: error });
  }
}

/** Shard i listens i ports higher. Port 0 stays 0: the system selects a free port. */
function address(base: ListenAddress, number: number): string {
  return formatAddress({ host: base.host, port: base.port === 0 ? 0 : base.port + number });
}
