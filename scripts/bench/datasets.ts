/**
 * What the requests of the console cost a shard: the totals of a million objects, a list of 10,000 keys from a cold page cache, and the
 * removal of 100,000 objects, each of the last two alone and beside GETs. Root drops the page cache of the machine.
 *
 *     npm run bench:datasets [-- --quick]
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Catalog } from '../../services/cache/index/catalog.ts';
import { Clock } from '../../services/cache/index/clock.ts';
import { datasetTotals } from '../../services/cache/index/dataset-totals.ts';
import type { Key } from '../../services/shared/key.ts';
import { signHeaders } from '../../services/shared/signed-terms.ts';
import { isQuick, makeFolder, progress } from './run.ts';
import { processSeconds, startShard } from './servers.ts';

const listed = 10_000;
const removed = isQuick ? 10_000 : 100_000;
const hot = 500;
const getters = 4;
const about = { namespace: 'bench', serviceAccount: 'bench', pod: undefined };
const terms = { maxObjectBytes: 2 ** 40, maxShare: undefined, mayRedirect: false, expiresAtSeconds: Math.ceil(Date.now() / 1000) + 3600 };
const signed = signHeaders(undefined, about, { ...terms, mayManage: true });
const headers = { 'x-kura-caller': signed.caller, 'x-kura-terms': signed.terms };
const agent = new Agent({ keepAlive: true });

console.log(`totals of 1,000,000 objects in 60,000 groups: ${benchTotals().toFixed(1)} ms`);
const shard = await startShard(path.join(makeFolder(), 'shard'), { KURA_CACHE_MAX_OBJECTS: '1000000' });
try {
  await fill('hot', hot, 16_384);
  await fill('ls', listed, 4096);
  await fill('rm/alone', removed, 4096);
  await fill('rm/beside', removed, 4096);
  report(`list of ${listed} keys, ${dropCaches()} page cache, alone`, await measured(listed, listAll));
  const gets = await getsBeside(() => delay(5_000));
  const cache = dropCaches();
  // Otherwise the first GETs measure their own reads of the disk.
  for (let at = 0; at < hot; at += 1) await send('GET', `/objects/bench/hot/${at}`);
  report(`list of ${listed} keys, ${cache} page cache, beside GETs`, await measured(listed, () => getsBeside(listAll)), gets);
  report(`list of ${listed} keys, warm, beside GETs`, await measured(listed, () => getsBeside(listAll)), gets);
  report(`removal of ${removed} objects, alone`, await measured(removed, () => removeAll('alone')));
  const later = await getsBeside(() => delay(5_000));
  report(`removal of ${removed} objects, beside GETs`, await measured(removed, () => getsBeside(() => removeAll('beside'))), later);
} finally {
  await shard.stop();
  agent.destroy();
}

/** Milliseconds of the slowest of five calls. */
function benchTotals(): number {
  const clock = new Clock();
  const catalog = new Catalog({
    limits: { maxBytes: 2 ** 44, maxFiles: 1_000_001 },
    eviction: 'lru',
    clock,
    maxObjectShare: 1,
    evict: async () => false,
  });
  for (let at = 0; at < 1_000_000; at += 1) {
    const group = at % 60_000;
    const [namespace, key] = [`namespace-${group % 250}`, `namespace-${group % 250}/set-${group}/train/part/${at}` as Key];
    catalog.commit({ a: Math.imul(at, 2654435761) >>> 0, b: at, c: at }, { key, namespace }, { blocks: 1, takenBytes: 0 });
  }
  let worst = 0;
  for (let round = 0; round < 5; round += 1) {
    const startedMs = performance.now();
    JSON.stringify(datasetTotals(catalog, '', 1_000));
    worst = Math.max(worst, performance.now() - startedMs);
  }
  return worst;
}

async function fill(name: string, count: number, bytes: number): Promise<void> {
  progress(`${count} objects for ${name}`);
  const body = Buffer.alloc(bytes, 1);
  let next = 0;
  const lane = async () => {
    for (let at = next++; at < count; at = next++) await send('PUT', `/objects/bench/${name}/${at}`, body);
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}

async function listAll(): Promise<void> {
  let keys = 0;
  for (let after = ''; ; ) {
    const lines = (await send('GET', `/datasets/keys?prefix=bench%2Fls%2F&limit=4000${after}`)).trim().split('\n');
    keys += lines.length - 1;
    const { next } = JSON.parse(lines.at(-1) as string) as { next?: string };
    if (next === undefined) break;
    after = `&after=${next}`;
  }
  if (keys !== listed) throw new Error(`${keys} keys`);
}

async function removeAll(name: string): Promise<void> {
  const { removal } = JSON.parse(await send('DELETE', `/datasets?prefix=bench%2Frm%2F${name}%2F`)) as { removal: string };
  for (;;) {
    const { state, removed: count } = JSON.parse(await send('GET', `/datasets/removal?id=${removal}`)) as {
      state: string;
      removed: number;
    };
    if (state === 'done' && count !== removed) throw new Error(`${count} objects were removed`);
    if (state === 'done') return;
    await delay(100);
  }
}

interface Gets {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
}

interface Measured {
  readonly seconds: number;
  /** CPU time of the shard for each item, with that of the GETs beside. */
  readonly microseconds: number;
  readonly gets: Gets | undefined;
}

async function measured(items: number, work: () => Promise<unknown>): Promise<Measured> {
  const [startedMs, usedSeconds] = [performance.now(), processSeconds(shard.pid)];
  const gets = (await work()) as Gets | undefined;
  const microseconds = ((processSeconds(shard.pid) - usedSeconds) * 1_000_000) / items;
  return { seconds: (performance.now() - startedMs) / 1000, microseconds, gets };
}

/** Sends GETs of hot objects, with a pause of up to 2 ms between them, until the work ends. */
async function getsBeside(work: () => Promise<unknown>): Promise<Gets> {
  const took: number[] = [];
  let isOver = false;
  const lanes = Array.from({ length: getters }, async (_, lane) => {
    for (let at = lane; !isOver; at += getters) {
      const sentMs = performance.now();
      await send('GET', `/objects/bench/hot/${(at * 7919) % hot}`);
      took.push(performance.now() - sentMs);
      await delay(at % 3);
    }
  });
  await work().finally(() => (isOver = true));
  await Promise.all(lanes);
  took.sort((one, other) => one - other);
  const quantile = (part: number) => took[Math.floor(took.length * part)] as number;
  return { count: took.length, p50: quantile(0.5), p99: quantile(0.99) };
}

function report(what: string, { seconds, microseconds, gets }: Measured, alone?: Gets): void {
  const show = ({ count, p50, p99 }: Gets) => `${count} GETs, p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`;
  const beside =
    gets === undefined || alone === undefined
      ? ''
      : `; ${show(gets)}; without: ${show(alone)}; p99 ${(gets.p99 / alone.p99).toFixed(2)} times`;
  console.log(`${what}: ${seconds.toFixed(2)} s, CPU ${microseconds.toFixed(0)} µs each${beside}`);
}

function dropCaches(): 'cold' | 'warm' {
  try {
    execFileSync('sync');
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return 'cold';
  } catch {
    return 'warm';
  }
}

function send(method: string, target: string, body?: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      shard.url + target,
      { method, agent, headers: { ...headers, 'content-length': body?.length ?? 0 } },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('latin1');
          if ((response.statusCode ?? 500) < 400) resolve(text);
          else reject(new Error(`${method} ${target}: ${response.statusCode} ${text}`));
        });
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}
