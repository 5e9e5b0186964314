/**
 * `npm run bench:shard`: compares a shard with nginx on this machine, alternating in one run, and checks the bounds. Prints one Markdown
 * table. Requires nginx, wrk and fio (Debian packages), and root for the cold case. Takes about ten minutes.
 */
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { better, type LoadResult, load, randomReads } from './load.ts';
import { benchMixed } from './mixed.ts';
import { createManyObjects } from './objects.ts';
import { isQuick, isWanted, makeFolder, progress, requirePrograms, rounds, seconds } from './run.ts';
import { benchSendfile } from './sendfile.ts';
import { type BenchServer, residentBytes, shardMetric, startNginx, startShard } from './servers.ts';
import { against, compare, printTable, type Row } from './table.ts';
import { startYardsticks } from './yardsticks.ts';

const run = promisify(execFile);
const [KiB, MiB, GiB] = [1024, 1024 ** 2, 1024 ** 3];
requirePrograms('bench:shard', ['nginx', 'wrk', 'fio', 'setpriv']);
const folder = makeFolder();

const steps: readonly (readonly [string, () => Promise<Row[]>])[] = [
  ['cached reads', benchCachedReads],
  ['parser', benchParser],
  ['sendfile', () => benchSendfile(fresh('sendfile'))],
  ['cold reads', benchColdReads],
  ['uploads', benchUploads],
  ['mixed', benchGetsAndPuts],
  ['connections', benchConnections],
  ['index', benchIndex],
  ['start', benchStart],
];
const rows: Row[] = [];
for (const [at, [name, work]] of steps.entries()) {
  if (!isWanted(name)) continue;
  progress(`${at + 1}/${steps.length} ${name}`);
  try {
    rows.push(...(await work()));
  } catch (error) {
    rows.push({ what: name, bound: '', result: `failed: ${(error as Error).message.split('\n')[0]}`, isMet: false, details: '' });
  }
}
progress('done');
printTable(rows, { isQuick });
process.exit(rows.some((row) => row.result.startsWith('failed')) ? 1 : 0);

/** Compares a shard with the same handler behind Node's parser. */
async function benchParser(): Promise<Row[]> {
  const directory = fresh('parser');
  const settings = { KURA_CACHE_MAX_BYTES: '1Gi' };
  const plain = await startShard(path.join(directory, 'plain'), settings);
  const node = await startShard(path.join(directory, 'node'), settings, 'scripts/bench/node-shard.ts');
  const made: Row[] = [];
  try {
    for (const [name, bytes] of [
      ['4 KiB', 4 * KiB],
      ['112 KiB', 112 * KiB],
      ['1 MiB', MiB],
    ] as const) {
      const target = `/objects/bench/${bytes}`;
      const best = new Map<BenchServer, LoadResult>();
      for (const server of [plain, node]) await putObject(server, target, randomBytes(bytes));
      for (let round = 0; round < rounds; round += 1) {
        for (const server of [plain, node]) {
          progress(`parser, ${name}, ${server.name}`);
          best.set(server, better(await load({ server, path: target, seconds, folder }), best.get(server)));
        }
      }
      const [ours, theirs] = [best.get(plain), best.get(node)] as [LoadResult, LoadResult];
      const labels = { baseline: "Node's parser", theirs: "Node's parser" };
      made.push(compare(`GET ${name}, cached, our parser`, undefined, { ours, theirs, labels }));
    }
  } finally {
    await Promise.all([plain.stop(), node.stop()]);
    rmSync(directory, { recursive: true });
  }
  return made;
}

/** Reads objects in the page cache, alternating between the servers. */
async function benchCachedReads(): Promise<Row[]> {
  const directory = fresh('cached');
  const shard = await startShard(path.join(directory, 'shard'), { KURA_CACHE_MAX_BYTES: '2Gi' });
  const nginx = [await startNginx(directory, 18_081, false), await startNginx(directory, 18_082, true)];
  const others = await startYardsticks({ folder: directory, nginx: nginx[0] as BenchServer, firstPort: 18_085, maxGiB: 2 });
  const servers = [shard, ...nginx, ...others.map(({ server }) => server)];
  const cases = [
    { name: '4 KiB', bytes: 4 * KiB, bound: 1.3 },
    { name: '112 KiB', bytes: 112 * KiB, bound: 1.1 },
    { name: '1 MiB', bytes: MiB, bound: 0.9 },
    { name: '64 MiB', bytes: 64 * MiB, bound: undefined },
  ];
  const made: Row[] = [];
  try {
    for (const { name, bytes, bound } of cases) {
      const body = randomBytes(bytes);
      const target = `/objects/bench/${bytes}`;
      await putObject(shard, target, body);
      mkdirSync(path.join(directory, 'www/objects/bench'), { recursive: true });
      writeFileSync(path.join(directory, 'www', target), body);
      const targets = new Map<BenchServer, string>();
      for (const { server, place } of others) targets.set(server, await place(target, body));
      const best = new Map<BenchServer, LoadResult>();
      for (let round = 0; round < rounds; round += 1) {
        for (const server of servers) {
          progress(`cached reads, ${name}, ${server.name}`);
          best.set(server, better(await load({ server, path: targets.get(server) ?? target, seconds, folder }), best.get(server)));
        }
      }
      const of = (server: BenchServer) => best.get(server) as LoadResult;
      const theirs = nginx.map(of) as [LoadResult, LoadResult];
      made.push(compare(`GET ${name}, cached`, bound, { ours: of(shard), theirs: better(...theirs) }));
      for (const { server } of others) made.push(against(`GET ${name}, cached`, server.name, { ours: of(shard), theirs: of(server) }));
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(directory, { recursive: true });
  }
  return made;
}

/** Reads objects that are not in memory, compared with the disk itself. */
async function benchColdReads(): Promise<Row[]> {
  if (process.getuid?.() !== 0)
    return [
      {
        what: 'GET 112 KiB, cold, random',
        bound: '>= 75 % of fio',
        result: 'needs root to drop the page cache',
        isMet: undefined,
        details: '',
      },
    ];
  const directory = fresh('cold');
  const objects = isQuick ? 4_000 : 30_000;
  await createManyObjects({
    directory,
    count: objects,
    bodyBytes: 112 * KiB,
    prefix: 'bench/',
    onProgress: (made) => progress(`cold reads, ${made} of ${objects} objects made`),
  });
  // Other objects for the warm-up, because Node needs thousands of requests to compile this path. After dropCaches, the shard would
  // still expect a measured object in the page cache if it had read it before.
  const warmUps = 4_000;
  await createManyObjects({ directory, count: warmUps, bodyBytes: 112 * KiB, prefix: 'warm/', onProgress: () => {} });
  const sizeBytes = objects * 112 * KiB;
  const shard = await startShard(directory, { KURA_CACHE_MAX_BYTES: '64Gi' });
  try {
    await counted(shard);
    const script = (prefix: string, count: number) =>
      `math.randomseed(os.time()); request = function() return wrk.format("GET", "/objects/${prefix}/" .. math.random(0, ${count - 1})) end`;
    await randomReads({ folder: directory, blockBytes: 112 * KiB, depth: 16, sizeBytes, seconds: 1 });
    let ours: LoadResult | undefined;
    let disk = 0;
    for (let round = 0; round < Math.min(2, rounds); round += 1) {
      progress('cold reads, fio');
      dropCaches();
      disk = Math.max(disk, await randomReads({ folder: directory, blockBytes: 112 * KiB, depth: 16, sizeBytes, seconds: seconds * 2 }));
      progress('cold reads, kura');
      await load({ server: shard, path: '/', seconds: 3, folder, script: script('warm', warmUps) });
      dropCaches();
      // A short run, so that few objects are read twice.
      const result = await load({ server: shard, path: '/', seconds: 2, folder, script: script('bench', objects) });
      if (ours === undefined || result.bytesPerSecond > ours.bytesPerSecond) ours = result;
    }
    const { bytesPerSecond, requestsPerSecond, p50, p99, machineMicros, failures } = ours as LoadResult;
    const share = bytesPerSecond / disk;
    return [
      {
        what: 'GET 112 KiB, page cache dropped, random',
        bound: '>= 75 % of fio randread, depth 16',
        result: `${(share * 100).toFixed(0)} %`,
        isMet: share >= 0.75 && failures === 0,
        details: `${(bytesPerSecond / 1e6).toFixed(0)} of ${(disk / 1e6).toFixed(0)} MB/s; ${requestsPerSecond.toFixed(0)} req/s, p50 ${p50}, p99 ${p99}, ${machineMicros.toFixed(0)} µs; ${failures} failures; ${await shardMetric(shard, 'kura_cache_cold_synchronous_reads_total')} cold synchronous reads seen`,
      },
    ];
  } finally {
    await shard.stop();
    rmSync(directory, { recursive: true });
  }
}

/** Stores new keys while the shard evicts objects, compared with nginx, which does not evict, and with bazel-remote, which does. */
async function benchUploads(): Promise<Row[]> {
  const directory = fresh('uploads');
  const shard = await startShard(path.join(directory, 'shard'), { KURA_CACHE_MAX_BYTES: '1Gi' });
  const nginx = await startNginx(directory, 18_083, false);
  const others = await startYardsticks({ folder: directory, nginx, firstPort: 18_087, maxGiB: 1, isForPut: true });
  const servers = [shard, nginx, ...others.map(({ server }) => server)];
  const best = new Map<BenchServer, LoadResult>();
  try {
    let run = 0;
    const script = (putPath = (name: string) => `"/objects/put-" .. ${name} .. "/" .. n`) => {
      run += 1;
      return `local body = string.rep("x", ${112 * KiB}); local n = 0; request = function() n = n + 1; return wrk.format("PUT", ${putPath(`"${run}"`)}, nil, body) end`;
    };
    const scriptOf = (server: BenchServer) => script(others.find((other) => other.server === server)?.putPath);
    progress('uploads, filling the caches');
    for (const { server, putPath } of others) await load({ server, path: '/', seconds: 5, folder, script: script(putPath) });
    for (let filled = 0; filled < 5 && (await shardMetric(shard, 'kura_cache_evicted_objects_total')) === 0; filled += 1) {
      await load({ server: shard, path: '/', seconds: 3, folder, script: script() });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const server of servers) {
        progress(`uploads, ${server.name}`);
        best.set(server, better(await load({ server, path: '/', seconds, folder, script: scriptOf(server) }), best.get(server)));
        rmSync(path.join(directory, 'www/objects'), { recursive: true, force: true });
        mkdirSync(path.join(directory, 'www/objects'));
      }
    }
    const evicted = await shardMetric(shard, 'kura_cache_evicted_objects_total');
    const what = 'PUT 112 KiB, new keys, while evicting';
    const of = (server: BenchServer) => best.get(server) as LoadResult;
    const row = compare(what, 1.4, { ours: of(shard), theirs: of(nginx) });
    const rest = others.map(({ server }) => against(what, server.name, { ours: of(shard), theirs: of(server) }));
    return [{ ...row, details: `${row.details}; ${evicted} evicted` }, ...rest];
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(directory, { recursive: true });
  }
}

/** Through Envoy, because its pools mix GET and PUT on a connection. */
async function benchGetsAndPuts(): Promise<Row[]> {
  const directory = fresh('mixed');
  const shard = await startShard(path.join(directory, 'shard'), { KURA_CACHE_MAX_BYTES: '4Gi' });
  const nginx = await startNginx(directory, 18_084, true);
  try {
    return await benchMixed({ shard, nginx, folder: directory });
  } finally {
    await Promise.all([shard.stop(), nginx.stop()]);
    rmSync(directory, { recursive: true });
  }
}

async function benchConnections(): Promise<Row[]> {
  const directory = fresh('connections');
  const shard = await startShard(directory, { KURA_CACHE_MAX_BYTES: '1Gi' });
  try {
    await putObject(shard, '/objects/bench/a', randomBytes(112 * KiB));
    const { stdout } = await run(process.execPath, [path.join(import.meta.dirname, 'connections.ts'), `${shard.url}/objects/bench/a`]);
    const { requests, failures, slowestMs, open } = JSON.parse(stdout) as {
      requests: number;
      failures: number;
      slowestMs: number;
      open: number;
    };
    const peak = residentBytes(shard.pid, 'VmHWM');
    return [
      {
        what: '10,000 open connections, 1,000 of them reading 112 KiB',
        bound: 'RSS <= 1 GiB, no request over 3 s',
        result: `${(peak / MiB).toFixed(0)} MiB, slowest ${(slowestMs / 1000).toFixed(2)} s`,
        isMet: peak <= GiB && slowestMs <= 3000 && failures === 0 && open === 10_000,
        details: `${requests} requests, ${failures} failures, ${open} connections open at the end`,
      },
    ];
  } finally {
    await shard.stop();
    rmSync(directory, { recursive: true });
  }
}

async function benchIndex(): Promise<Row[]> {
  const { stdout } = await run(process.execPath, [path.join(import.meta.dirname, 'index.ts')]);
  const { bytes, resident, worstMs } = JSON.parse(stdout) as { bytes: number; resident: number; worstMs: number };
  return [
    {
      what: 'index of 20 million objects',
      bound: '<= 48 bytes an object, no pause over 10 ms',
      result: `${resident.toFixed(1)} bytes resident`,
      isMet: resident <= 48 && worstMs <= 10,
      details: `${bytes.toFixed(1)} bytes by its arrays; longest pause over 128 inserts ${worstMs.toFixed(1)} ms`,
    },
  ];
}

/** A start after kill -9, from the object files alone. */
async function benchStart(): Promise<Row[]> {
  const directory = fresh('start');
  const objects = isQuick ? 100_000 : 1_000_000;
  await createManyObjects({
    directory,
    count: objects,
    bodyBytes: 1000,
    prefix: 'bench/',
    onProgress: (made) => progress(`start, ${made} of ${objects} objects made`),
  });
  if (process.getuid?.() === 0) dropCaches();
  progress('start');
  const startedMs = performance.now();
  const shard = await startShard(directory, { KURA_CACHE_MAX_BYTES: '64Gi', KURA_CACHE_MAX_OBJECTS: '2000000' });
  try {
    const upMs = performance.now() - startedMs;
    const answer = await fetch(`${shard.url}/objects/bench/${objects - 1}`);
    const isRight = answer.status === 200 && (await answer.arrayBuffer()).byteLength === 1000;
    const firstMs = performance.now() - startedMs;
    await counted(shard);
    const countedMs = performance.now() - startedMs;
    const found = await shardMetric(shard, 'kura_cache_objects');
    const peak = residentBytes(shard.pid, 'VmHWM');
    return [
      {
        what: `start with ${objects.toLocaleString('en')} objects on disk, no snapshot, cold`,
        bound: 'first GET < 1 s, all accounted < 30 s, peak RSS <= 300 MiB',
        result: `${(firstMs / 1000).toFixed(2)} s, ${(countedMs / 1000).toFixed(1)} s, ${(peak / MiB).toFixed(0)} MiB`,
        isMet: isRight && firstMs < 1000 && countedMs < 30_000 && peak <= 300 * MiB && found === objects,
        details: `${found} objects found; listening after ${(upMs / 1000).toFixed(2)} s; worst event-loop delay ${((await shardMetric(shard, 'kura_cache_event_loop_delay_seconds\\{quantile="1"\\}')) * 1000).toFixed(0)} ms`,
      },
    ];
  } finally {
    await shard.stop();
    rmSync(directory, { recursive: true });
  }
}

async function putObject(server: BenchServer, target: string, body: Buffer): Promise<void> {
  const { status } = await fetch(server.url + target, { method: 'PUT', body: new Uint8Array(body) });
  if (status !== 201) throw new Error(`PUT ${target} returned ${status}`);
  await (await fetch(server.url + target)).arrayBuffer();
}

/** Waits until the shard's recovery has finished. */
async function counted(shard: BenchServer): Promise<void> {
  const end = performance.now() + 180_000;
  while ((await shardMetric(shard, 'kura_cache_recovered_ratio')) < 1) {
    if (performance.now() > end) throw new Error('recovery did not finish within 180 s');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function dropCaches(): void {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

function fresh(name: string): string {
  const directory = path.join(folder, name);
  mkdirSync(directory);
  return directory;
}
