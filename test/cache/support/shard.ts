/** A shard in the process of the test, with its own folder and free ports. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import { settings } from '../../../services/cache/config.ts';
import type { Files } from '../../../services/cache/disk/files.ts';
import type { SendfileCalls } from '../../../services/cache/disk/sendfile-calls.ts';
import type { TimeBudget } from '../../../services/cache/disk/time-budget.ts';
import { type ShardSettings, startShard } from '../../../services/cache/shard.ts';
import { readSettings } from '../../../services/shared/environment.ts';
import { readMetric } from '../../support/metrics.ts';

export interface TestShard {
  readonly directory: string;
  readonly url: string;
  readonly metricsUrl: string;
  /** `host:port` of the object port. */
  readonly address: string;
  close(): Promise<void>;
}

interface TestShardOptions {
  readonly directory?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly files?: Files;
  readonly sendfile?: SendfileCalls;
  /** By default a request waits for the disk for up to a minute, so that a busy machine does not fail the test. */
  readonly budget?: TimeBudget;
}

const patient: TimeBudget = { firstByteMs: 60_000, commitMs: 60_000, readMs: 60_000, writeMs: 60_000, fillMs: 60_000 };

/** A folder that is removed when the test ends. */
export async function temporaryDirectory(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'kura-cache-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export function shardSettings(directory: string, environment: Readonly<Record<string, string>> = {}): ShardSettings {
  const given = {
    KURA_CACHE_LISTEN: '127.0.0.1:0',
    KURA_CACHE_METRICS_LISTEN: '127.0.0.1:0',
    KURA_CACHE_NAME: 'kura-cache-0/shard-0',
    KURA_CACHE_CREDENTIAL_FILE: 'off',
    KURA_CACHE_MAX_BYTES: '256Mi',
    KURA_CACHE_MAX_OBJECTS: '10000',
    KURA_CACHE_DRAIN: '0ms',
    KURA_CACHE_GRACE: '1s',
    ...environment,
  };
  return { ...readSettings('KURA_CACHE_', settings, given), directory };
}

/** Starts a shard. It is stopped at the end of the test, at the latest. */
export async function startTestShard(t: ExecutionContext, options: TestShardOptions = {}): Promise<TestShard> {
  const { environment, directory = await temporaryDirectory(t), ...replaced } = options;
  const running = await startShard(shardSettings(directory, environment), pino({ level: 'silent' }), { budget: patient, ...replaced });
  const { objects, metrics } = running.listening as { objects: string; metrics: string };
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= running.close();
    return closing;
  };
  t.teardown(close);
  return { directory, url: `http://${objects}`, metricsUrl: `http://${metrics}`, address: objects, close };
}

/** The value of a metric: the sum of all its label sets, or of those that match `labels`. */
export function metric(shard: TestShard, name: string, labels = ''): Promise<number> {
  return readMetric(`${shard.metricsUrl}/metrics`, name, labels);
}
