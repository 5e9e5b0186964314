/** One shard: one directory, one port, one event loop. Constructs its parts, and closes them in reverse order. */
import { hostname } from 'node:os';
import path from 'node:path';
import { type Closer, startWithCloser } from '../shared/closer.ts';
import { openCredentials } from '../shared/credential-file.ts';
import type { Settings } from '../shared/environment.ts';
import type { Running } from '../shared/lifecycle.ts';
import { formatAddress } from '../shared/listen.ts';
import type { Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer } from '../shared/metrics.ts';
import type { settings } from './config.ts';
import { Counters } from './counters.ts';
import { Datasets } from './datasets/datasets.ts';
import { Keys } from './datasets/keys.ts';
import { type Removal, Removals, readRemovals } from './datasets/removals.ts';
import { Sweep } from './datasets/sweep.ts';
import { FolderRepair, type Identity, lockDirectory, prepareDirectory, requireMarker } from './disk/directory.ts';
import { DiskHealth } from './disk/disk-health.ts';
import { FileReader } from './disk/file-reader.ts';
import { FileWriter } from './disk/file-writer.ts';
import { countPending, type Files, systemFiles } from './disk/files.ts';
import { openSendfile, type SendfileCalls } from './disk/sendfile-calls.ts';
import { TailReader } from './disk/tail-reader.ts';
import { type TimeBudget, timeBudget } from './disk/time-budget.ts';
import { FillBounds } from './fill/fill-bounds.ts';
import { Fills } from './fill/fills.ts';
import { OriginClient } from './fill/origin-client.ts';
import { Callers } from './http/callers.ts';
import { divideDescriptors } from './http/connection-limit.ts';
import { Direct } from './http/direct.ts';
import { type ObjectServerOptions, startObjectServer } from './http/object-server.ts';
import { RequestLog } from './http/request-log.ts';
import type { ObjectService } from './http/service.ts';
import { Catalog } from './index/catalog.ts';
import { Clock } from './index/clock.ts';
import { registerMetrics } from './metrics.ts';
import { BufferPool } from './store/buffer-pool.ts';
import { LoadedBodies } from './store/loaded-bodies.ts';
import { PageCacheWindow } from './store/page-cache-window.ts';
import { Reader } from './store/reader.ts';
import { Store } from './store/store.ts';
import { availableMemory, folderBytes, resolveLimits } from './upkeep/limits.ts';
import { Maintenance } from './upkeep/maintenance.ts';
import { Recovery } from './upkeep/recovery.ts';

export type ShardSettings = Settings<typeof settings> & { readonly directory: string };

/** Parts that a test or a benchmark replaces. */
interface ReplaceableParts {
  readonly files?: Files;
  readonly parser?: ObjectServerOptions['parser'];
  readonly budget?: TimeBudget;
  readonly sendfile?: SendfileCalls;
}

/** Starts a shard. Resolves when it serves; recovery continues in the background. Rejects if it cannot use the directory or an address. */
export async function startShard(config: ShardSettings, log: Logger, replaced: ReplaceableParts = {}): Promise<Running> {
  return await startWithCloser(async (closer) => {
    if (config.marker !== undefined) await requireMarker(config.directory, config.marker);
    const lock = await lockDirectory(config.directory);
    closer.add('directory lock', lock.release);
    return await startLocked(config, log, replaced, closer);
  });
}

async function startLocked(config: ShardSettings, log: Logger, replaced: ReplaceableParts, closer: Closer): Promise<Running['listening']> {
  const identity = await prepareDirectory(config.directory, config.name ?? '');
  const stopped = new AbortController();
  const descriptors = divideDescriptors(config.openFiles, log);
  const { openFiles } = descriptors;
  const known = await readRemovals(config.directory);
  const files = replaced.files ?? withThreads(config, closer, log);
  const parts = createParts({ config, identity, log, openFiles, known, files, signal: stopped.signal });
  const { catalog, repair, store, reader, buffers, counters, window, health, recovery, maintenance, removals, sweep, datasets } = parts;
  closer.add('open files', () => store.openFiles.shrink(0));
  closer.add('repair of folders', () => repair.settled());
  closer.add('disk health', () => health.close());
  catalog.space.setOverhead(await folderBytes(config.directory));
  health.start();
  const credentials = openCredentials(config.credentialFile, log);
  closer.add('credentials', () => credentials.close());
  const fills = createFills(config, { store, health, log, budget: replaced.budget ?? timeBudget });
  closer.add('fills', () => fills?.close());
  removals.onForce.push(() => fills?.dropRemoved((version) => removals.covers(version)));
  let stopping: 'no' | 'draining' | 'closing' = 'no';
  const notReady = () => (stopping !== 'no' ? 'stopping' : health.problem);
  const service: ObjectService = {
    name: identity.name === '' ? hostname() : identity.name,
    store,
    datasets,
    reader,
    buffers,
    counters,
    requestLog: config.requestLog ? new RequestLog({ log, now: Date.now }) : undefined,
    callers: new Callers({ keys: () => credentials.keys, now: Date.now }),
    direct: createDirect(config, () => objects.address),
    fills,
    sendfile: replaced.sendfile ?? (config.advertise !== undefined && config.sendfile ? openSendfile(log) : undefined),
    notReady,
    health,
    isClosing: () => stopping === 'closing',
    budget: replaced.budget ?? timeBudget,
    readerTimeoutMs: config.readerTimeout,
    writerTimeoutMs: config.writerTimeout,
  };
  const objects = await startObjectServer({
    service,
    address: config.listen,
    keepAliveMs: config.keepAlive,
    maxConnections: descriptors.connections,
    parser: replaced.parser ?? 'plain',
  });
  closer.add('object server', async () => {
    if (stopping !== 'closing') await objects.close();
  });
  const registry = createRegistry();
  const stopMetrics = registerMetrics(registry, {
    counters,
    catalog,
    openFiles: store.openFiles,
    buffers,
    window,
    connections: objects.connections,
    recovered: () => recovery.ratio,
    isServing: () => notReady() === undefined,
    fills,
  });
  closer.add('metrics', stopMetrics);
  const metrics = await startMetricsServer({ address: config.metricsListen, registry, notReady });
  closer.add('metrics server', metrics.close);
  const background = recovery
    .run()
    .then(() => Promise.all([maintenance.run(), sweep.run()]))
    .catch((error: unknown) => log.error({ err: error }, 'recovery or maintenance failed'));

  // Registered last: the metrics server answers until requests and background work have ended.
  closer.add('requests and background work', async () => {
    stopping = 'draining';
    await delay(config.drain);
    stopping = 'closing';
    await objects.drain(config.grace);
    await fills?.close();
    stopped.abort();
    await background;
    await idle(counters);
    // Before recovery has counted all objects, the previous snapshot has the recency of more objects.
    if (catalog.space.isCounted) await maintenance.writeSnapshot();
  });
  return { objects: objects.address, metrics: metrics.address };
}

function withThreads({ readThread }: ShardSettings, closer: Closer, log: Logger): Files {
  const onFail = (error: unknown) => log.error({ err: error }, 'a thread for files has ended: the thread pool does its work now');
  const writer = new FileWriter({ onFail });
  closer.add('file writer', () => writer.close());
  const tailReader = new TailReader({ onFail });
  closer.add('tail reader', () => tailReader.close());
  const files: Files = {
    ...systemFiles,
    writeWhole: (...file) => writer.write(...file),
    unlinkSmall: (path) => writer.remove(path),
    readTail: (...read) => tailReader.read(...read),
  };
  if (!readThread) return files;
  // It needs Linux and the module node:ffi.
  const reader = new FileReader({ onFail: (error) => log.warn({ err: error }, 'no thread for cold reads: the thread pool does its work') });
  closer.add('file reader', () => reader.close());
  return { ...files, readWhole: (...read) => reader.read(...read) };
}

/** `listening` returns the address of the shard. It is called only after the shard listens. */
function createDirect({ advertise, directMinBytes, ticketLife }: ShardSettings, listening: () => string): Direct | undefined {
  if (advertise === undefined) return undefined;
  const address = () => formatAddress({ host: advertise.host, port: advertise.port ?? Number(listening().split(':').at(-1)) });
  return new Direct({ address, minBytes: directMinBytes, lifeMs: ticketLife, now: () => performance.now() });
}

interface FillParts {
  readonly store: Store;
  readonly health: DiskHealth;
  readonly log: Logger;
  readonly budget: TimeBudget;
}

function createFills(config: ShardSettings, { store, health, log, budget }: FillParts): Fills | undefined {
  const { originUrl: url, fills: maxFills, fillBytes: maxBytes } = config;
  if (url === undefined) return undefined;
  const origin = new OriginClient({ url, maxConnections: maxFills, log });
  const parts = { namespacePart: config.fillNamespacePercent / 100, prefetchPart: config.fillPrefetchPercent / 100 };
  const bounds = new FillBounds({ maxFills, maxBytes, ...parts });
  return new Fills({ origin, bounds, store, health, writeMs: budget.writeMs, now: () => performance.now() });
}

interface PartsOptions {
  readonly config: ShardSettings;
  readonly identity: Identity;
  readonly log: Logger;
  readonly openFiles: number;
  /** The removals of earlier processes. */
  readonly known: Removal[];
  readonly files: Files;
  readonly signal: AbortSignal;
}

/** Constructs the parts that need no address. */
function createParts({ config, identity, log, signal, ...options }: PartsOptions) {
  const { directory } = config;
  const bounds = { directory, maxBytes: config.maxBytes, maxObjects: config.maxObjects, shards: config.deviceShards };
  const limits = resolveLimits({ ...bounds, own: undefined });
  const clock = new Clock();
  const counters = new Counters();
  const files = countPending(options.files, (change) => {
    counters.pendingFileCalls += change;
  });
  const buffers = new BufferPool({ maxBytes: config.bufferBytes });
  const window = new PageCacheWindow({ maxBytes: availableMemory() / 2 / config.deviceShards, startTick: clock.tick() });
  const repair = new FolderRepair({ directory, marker: config.marker }, log);
  const health: DiskHealth = new DiskHealth({
    counters,
    probe: () => probeDisk(files, directory),
    onFull: () => yieldRoom(catalog, log),
    onMissingFolder: () => repair.start(),
    onChange: (problem, error) =>
      problem === undefined ? log.info('the disk works: back in service') : log.error({ err: error }, `${problem}: out of service`),
    now: () => performance.now(),
  });
  const catalog: Catalog = new Catalog({
    limits,
    eviction: config.eviction,
    maxObjectShare: config.maxObjectPercent / 100,
    clock,
    evict: (row) => store.evict(row),
  });
  const loaded = new LoadedBodies();
  for (const { time } of options.known) clock.commitAfter(BigInt(time));
  const removals = new Removals({ directory, now: () => clock.commitTime() }, options.known);
  const common = { directory, catalog, files, buffers, loaded, clock, window, counters, health, log, signal };
  const store: Store = new Store({
    ...common,
    secret: identity.secret,
    maxOpenFiles: options.openFiles,
    isRemoved: (version) => removals.covers(version),
    onRemoved: (version, bytes) => removals.count(version, bytes),
  });
  removals.onForce.push(() => store.applyRemovals());
  const sweep = new Sweep({ ...common, store, removals });
  const keys = new Keys({ ...common, store });
  const datasets = new Datasets({ ...common, secret: identity.secret, keys, removals, sweep, now: Date.now });
  const reader = new Reader({ ...common, store, diskReads: () => process.resourceUsage().fsRead });
  const recovery = new Recovery({
    ...common,
    isNew: identity.isNew,
    mutex: store.mutex,
    runId: store.runId,
    removeFile: (digest) => store.removeUnknown(digest),
    onCounted: () => {
      const own = { bytes: catalog.storedBytes, files: catalog.index.count };
      // The index has rows for the first limit only.
      const resolved = resolveLimits({ ...bounds, own });
      catalog.space.limits = { ...resolved, maxFiles: Math.min(resolved.maxFiles, limits.maxFiles) };
    },
  });
  const maintenance = new Maintenance({ ...common, store, scrubBytesPerSecond: config.scrub, folderBytes: () => folderBytes(directory) });
  return { catalog, repair, store, reader, recovery, maintenance, removals, sweep, datasets, health, counters, buffers, window };
}

/** Uses the same file calls as requests. */
async function probeDisk(files: Files, directory: string): Promise<void> {
  const file = path.join(directory, 'probe');
  const sent = Buffer.from('kura');
  const written = await files.open(file, 'w', 0o600);
  await files.write(written, sent, sent.length, 0).finally(() => files.close(written));
  const read = await files.open(file, 'r');
  const got = Buffer.alloc(sent.length);
  await files.read(read, got, 0, got.length, 0).finally(() => files.close(read));
  if (!got.equals(sent)) throw new Error('the probe file has other bytes than were written');
  await files.unlink(file);
}

/** Waits for file calls that no request waits for. The limit keeps a hung disk from blocking the stop of the process. */
async function idle(counters: Counters): Promise<void> {
  const untilMs = performance.now() + 5_000;
  while (counters.pendingFileCalls > 0 && performance.now() < untilMs) await delay(10);
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** How much the limit falls below the used bytes when another program fills the file system, and for how long. */
const yieldBytes = 64 * 1024 * 1024;
const yieldMs = 60_000;

/** Lowers the limit for a while when another program fills the file system, so that later PUTs succeed. */
function yieldRoom(catalog: Catalog, log: Logger): void {
  const { space } = catalog;
  if (!space.isCounted) return;
  const lowered = space.usedBytes - Math.min(yieldBytes, Math.floor(space.usedBytes / 4));
  if (lowered >= space.limitBytes) return;
  log.warn({ limitBytes: lowered }, 'the file system is full below the limit of this shard; lowering the limit for a while');
  space.lower(lowered);
  catalog.evictor.run();
  setTimeout(() => space.lift(), yieldMs).unref();
}
