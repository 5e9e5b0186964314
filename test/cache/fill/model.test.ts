/**
 * Random requests under `/through/` against a model: fills, ranges, HEAD, prefetch, no-cache, PUT, DELETE and clients that leave, with an
 * origin whose objects change and whose bodies break, with eviction, and with file calls that fail or hang. Each whole response is one
 * version of the origin or of a PUT. Afterwards the metrics match the disk. `KURA_MODEL_SECONDS=60` runs longer.
 */
import { createCipheriv, randomBytes, randomInt } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { timeBudget } from '../../../services/cache/disk/time-budget.ts';
import { callerHeaders } from '../../support/caller.ts';
import type { Answer } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { storedBytes } from '../support/disk.ts';
import { HostileFiles } from '../support/hostile-files.ts';
import { metric } from '../support/shard.ts';
import { serve, startThrough } from './support/through.ts';

const seconds = Number(process.env.KURA_MODEL_SECONDS ?? 10);
const names = Array.from({ length: 40 }, (_, at) => `k${at}`);
const [idBytes, clients] = [16, 10];

/** All versions that an object has had, by the id with which their bytes begin. */
const versions = new Map<string, { name: string; body: Buffer }>();

function newVersion(name: string): Buffer {
  const id = randomBytes(idBytes);
  const length = idBytes + randomInt([100, 20_000, 400_000, 1_500_000][randomInt(4)] as number);
  const body = createCipheriv('aes-128-ctr', id, Buffer.alloc(16)).update(Buffer.alloc(length));
  id.copy(body);
  versions.set(id.toString('hex'), { name, body });
  return body;
}

function faultOf(name: string, { status, headers, body }: Answer): string | undefined {
  if (status === 206) {
    const [, first] = /^bytes (\d+)-/.exec(headers['content-range'] ?? '') ?? [];
    const isPart = ({ name: other, body: whole }: { name: string; body: Buffer }) =>
      other === name && whole.subarray(Number(first), Number(first) + body.length).equals(body);
    return [...versions.values()].some(isPart) ? undefined : `${name}: a range of no version`;
  }
  if (status !== 200) return undefined;
  const version = versions.get(body.subarray(0, idBytes).toString('hex'));
  return version?.name === name && version.body.equals(body) ? undefined : `${name}: ${body.length} bytes of no version`;
}

/** An origin whose objects change, and whose responses are slow, broken, or errors. */
function randomOrigin(): RequestListener {
  const current = new Map(names.map((name) => [name, newVersion(name)]));
  return (request, response) => {
    const name = (request.url ?? '').slice(1);
    if (randomInt(8) === 0) current.set(name, newVersion(name));
    const body = current.get(name) as Buffer;
    const etag = `"${body.subarray(0, idBytes).toString('hex')}"`;
    const kind = randomInt(20);
    if (kind === 0) return void response.writeHead([404, 403, 500][randomInt(3)] as number).end();
    if (kind > 4 || request.method === 'HEAD') return serve(response, request, body, { etag });
    response.writeHead(200, kind === 1 ? { etag } : { etag, 'content-length': body.length });
    const half = randomInt(body.length);
    response.write(body.subarray(0, half));
    setTimeout(() => (kind === 2 ? response.destroy() : response.end(body.subarray(half))), randomInt(300));
  };
}

test('each whole response is a version of the origin or of a PUT, and the metrics match the disk', async (t) => {
  t.timeout((seconds + 180) * 1000);
  const hostile = new HostileFiles();
  const through = await startThrough(t, randomOrigin(), {
    files: hostile.files,
    budget: { ...timeBudget, fillMs: 3_000 },
    environment: {
      KURA_CACHE_MAX_BYTES: '24Mi',
      KURA_CACHE_MAX_OBJECTS: '100',
      KURA_CACHE_OPEN_FILES: '16',
      KURA_CACHE_BUFFER_BYTES: '16Mi',
      KURA_CACHE_FILLS: '8',
      KURA_CACHE_MAX_OBJECT_PERCENT: '5',
      KURA_CACHE_SCRUB: '20Mi',
      KURA_CACHE_READER_TIMEOUT: '2s',
    },
  });
  const faults: string[] = [];
  const counts = new Map<string, number>();
  const step = async (): Promise<void> => {
    const name = names[randomInt(names.length)] as string;
    const method = ['PUT', 'DELETE', 'HEAD', 'GET', 'GET', 'GET', 'GET', 'GET', 'GET', 'GET'][randomInt(10)] as string;
    const body = method === 'PUT' ? newVersion(name) : undefined;
    const terms = { origin: 'web', share: 0.9, isPrefetch: randomInt(4) === 0, revalidateSeconds: randomInt(2) === 0 ? 1 : undefined };
    const from = randomInt(500_000);
    const headers = {
      ...callerHeaders({ namespace: `team-${randomInt(3)}`, fill: terms }),
      ...(randomInt(2) === 0 ? { te: 'trailers' } : {}),
      ...(randomInt(6) === 0 ? { 'cache-control': 'no-cache' } : {}),
      ...(randomInt(4) === 0 ? { range: `bytes=${from}-${from + randomInt(400_000)}` } : {}),
      ...(body === undefined ? {} : { 'content-length': body.length }),
    };
    const signal = AbortSignal.timeout(randomInt(5) === 0 ? randomInt(100) : 60_000);
    const answer = await through.get(name, { method, headers, signal, ...(body === undefined ? {} : { body }) }).catch(() => undefined);
    const result = `${method} ${answer?.status ?? 'none'} ${answer?.headers['x-kura-cache'] ?? ''}`;
    counts.set(result, (counts.get(result) ?? 0) + 1);
    if (answer === undefined || !answer.complete || method !== 'GET') return;
    const fault = faultOf(name, answer);
    if (fault !== undefined) faults.push(fault);
  };
  let isOver = false;
  const work = Array.from({ length: clients }, async () => {
    while (!isOver) await step();
  });
  const calls = ['open', 'read', 'write', 'rename', 'unlink'] as const;
  const trouble = (async () => {
    while (!isOver) {
      await delay(randomInt(400));
      const faulty = calls[randomInt(calls.length)] as 'open';
      if (randomInt(2) === 0) hostile.fails.set(faulty, 'EIO');
      else hostile.hangs.add(faulty);
      await delay(randomInt(200));
      hostile.heal();
    }
  })();
  await delay(seconds * 1000);
  isOver = true;
  await Promise.all([...work, trouble]);
  t.log(Object.fromEntries([...counts].sort()));
  t.deepEqual(faults.slice(0, 5), []);
  await waitFor('no fill', async () => (await metric(through.shard, 'kura_cache_fills_in_flight')) === 0);
  t.is(await metric(through.shard, 'kura_cache_fill_bytes_in_flight'), 0);
  t.is(await metric(through.shard, 'kura_cache_fill_waiters'), 0);
  let account = {};
  await waitFor('the metrics match the disk', async () => {
    const [reserved, stored, onDisk] = [
      await metric(through.shard, 'kura_cache_reserved_bytes'),
      await metric(through.shard, 'kura_cache_stored_bytes'),
      await storedBytes(through.shard.directory),
    ];
    account = { reserved, stored, onDisk, temporary: await readdir(`${through.shard.directory}/temporary`) };
    return reserved === 0 && stored === onDisk;
  }).finally(() => t.log(account));
  await waitFor('no waiting bytes', async () => (await metric(through.shard, 'kura_cache_buffer_bytes')) === 0);
});
