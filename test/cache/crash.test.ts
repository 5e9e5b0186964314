import { randomBytes, randomInt } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { storedBytes } from './support/disk.ts';
import { startCacheProcess } from './support/process.ts';
import { temporaryDirectory } from './support/shard.ts';

/** A round takes half a second. `KURA_CRASH_ROUNDS=200` runs more rounds. */
const allRounds = Number(process.env.KURA_CRASH_ROUNDS ?? 40);

const keys = Array.from({ length: 24 }, (_, at) => `k${at}`);
const sizes = [0, 300, 40_000, 262_144, 700_000, 1_100_000];

for (const { title, maxBytes, rounds, mayMiss } of [
  {
    title: 'kill -9 at any time loses no acknowledged object and leaves no wrong byte and no temporary file',
    maxBytes: '256Mi',
    rounds: allRounds,
    mayMiss: false,
  },
  // 24 objects of up to 1 MB, and a limit for some of them.
  {
    title: 'kill -9 while objects are evicted leaves no wrong byte, no stale object and no temporary file',
    maxBytes: '16Mi',
    rounds: Math.ceil(allRounds / 3),
    mayMiss: true,
  },
])
  test(title, async (t) => {
    t.timeout(rounds * 10_000);
    const directory = await temporaryDirectory(t);
    // The last acknowledged version of each key, and the versions that were in progress since.
    const acknowledged = new Map<string, Buffer | undefined>();
    const inFlight = new Map<string, (Buffer | undefined)[]>();
    let crashes = 0;
    for (let round = 0; round < rounds; round += 1) {
      const shard = await startCacheProcess(t, {
        KURA_CACHE_DIRECTORY: directory,
        KURA_CACHE_MAX_BYTES: maxBytes,
        KURA_CACHE_MAX_OBJECT_PERCENT: '100',
      });
      const url = `http://${shard.listening.objects}`;
      const metricsUrl = `http://${shard.listening.metrics}`;
      // The first GETs of a round come right after the start, before recovery has counted all files.
      for (const key of keys) {
        const { status, body, complete } = await call(url, { path: `/objects/${key}` });
        const possible = [acknowledged.get(key), ...(inFlight.get(key) ?? [])];
        if (status === 404) t.true(mayMiss || possible.includes(undefined), `round ${round}: ${key} is lost`);
        else
          t.true(
            status === 200 && complete && possible.some((version) => version?.equals(body)),
            `round ${round}: ${key} is no version that was written`,
          );
        acknowledged.set(key, status === 200 ? body : undefined);
        inFlight.delete(key);
      }
      await waitFor('all is counted', async () =>
        /^kura_cache_recovered_ratio 1$/m.test(await (await fetch(`${metricsUrl}/metrics`)).text()),
      );
      const metrics = await (await fetch(`${metricsUrl}/metrics`)).text();
      t.is(Number(/^kura_cache_stored_bytes (\d+)$/m.exec(metrics)?.[1]), await storedBytes(directory), 'the metrics match the disk');
      t.deepEqual(await readdir(path.join(directory, 'temporary')), []);

      let isOver = false;
      const worker = async (own: string[]) => {
        while (!isOver) {
          const key = own[randomInt(own.length)] as string;
          const body = randomInt(8) === 0 ? undefined : randomBytes(sizes[randomInt(sizes.length)] as number);
          inFlight.set(key, [...(inFlight.get(key) ?? []), body]);
          const method = body === undefined ? 'DELETE' : 'PUT';
          const answer = await call(url, {
            method,
            path: `/objects/${key}`,
            ...(body === undefined
              ? {}
              : randomInt(2) === 0
                ? { body, headers: { 'content-length': body.length } }
                : { body: Readable.from([body]) }),
          }).catch(() => undefined);
          if (answer === undefined) return;
          t.true([201, 204, 404].includes(answer.status));
          if (!mayMiss) t.is(answer.headers['x-kura-stored'], undefined);
          acknowledged.set(key, answer.headers['x-kura-stored'] === 'no' ? undefined : body);
          inFlight.delete(key);
        }
      };
      const workers = [0, 1, 2, 3].map((number) => worker(keys.filter((_, at) => at % 4 === number)));
      const reader = async () => {
        while (!isOver) {
          const key = keys[randomInt(keys.length)] as string;
          const from = randomInt(300_000);
          const answer = await call(url, { path: `/objects/${key}`, headers: { range: `bytes=${from}-${from + 200_000}` } }).catch(
            () => undefined,
          );
          if (answer === undefined) return;
          t.true([200, 206, 404, 416].includes(answer.status));
        }
      };
      const reading = [reader(), reader()];
      await delay(randomInt(120));
      shard.child.kill('SIGKILL');
      isOver = true;
      await Promise.all([...workers, ...reading]);
      await shard.ended;
      crashes += 1;
    }
    t.is(crashes, rounds);
  });
