/** Several shards in one Pod: a small parent that starts one process for each, restarts what crashes and passes signals on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type ListenAddress, type Settings, SettingsError } from '../shared/environment.ts';
import type { ListeningMessage, Running } from '../shared/lifecycle.ts';
import { formatAddress } from '../shared/listen.ts';
import type { Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import { settingPrefix, type settings } from './config.ts';

/** A crashed shard comes back after this, doubled for each crash in a row; a minute of life ends the row. */
const firstBackoffMs = 500;
const maxBackoffMs = 30_000;
const stableMs = 60_000;
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
      await Promise.all(shards.map((shard) => shard.stop(options.stopMs + closeMs)));
      await health.close();
    },
  };
}

class ShardProcess {
  readonly plan: ShardPlan;
  objects: string | undefined;
  metrics: string | undefined;
  /** As its own `/readyz` says: not while it starts, hangs, or its disk keeps failing. */
  isServing = false;
  readonly #options: ShardsOptions;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #crashes = 0;
  #isStopping = false;

  constructor(plan: ShardPlan, options: ShardsOptions) {
    this.plan = plan;
    this.#options = options;
  }

  /** Resolves when the shard serves or its process has ended. */
  async start(): Promise<void> {
    const { program, environment, log } = this.#options;
    const startedMs = performance.now();
    // The kernel ends the shard with this parent, however that ends: no shard may go on holding a directory that nobody watches.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, program], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...environment, ...this.plan.environment },
    });
    this.#child = child;
    const serves = Promise.withResolvers<void>();
    child.on('message', (message: ListeningMessage) => {
      if (message.kind !== 'listening') return;
      this.objects = message.listening.objects;
      this.metrics = message.listening.metrics;
      this.isServing = true;
      serves.resolve();
    });
    child.on('error', (error) => log.error({ err: error }, 'setpriv of util-linux is needed and does not start'));
    child.on('close', (status, signal) => {
      this.objects = undefined;
      this.metrics = undefined;
      this.isServing = false;
      this.#child = undefined;
      serves.resolve();
      if (!this.#isStopping) this.#restartLater(performance.now() - startedMs, status, signal);
    });
    await serves.promise;
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

  async stop(withinMs: number): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), withinMs);
    await once(child, 'close');
    clearTimeout(timer);
  }

  #restartLater(livedMs: number, status: number | null, signal: NodeJS.Signals | null): void {
    this.#crashes = livedMs > stableMs ? 1 : this.#crashes + 1;
    const backoffMs = Math.min(maxBackoffMs, firstBackoffMs * 2 ** (this.#crashes - 1));
    this.#options.log.error({ shard: this.plan.number, status, signal, backoffMs }, 'a shard ended: starting it again');
    this.#timer = setTimeout(() => void this.start(), backoffMs);
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
