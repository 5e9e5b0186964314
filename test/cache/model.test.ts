/**
 * Random requests against a model: PUT (with a length and chunked), conditional PUT, DELETE, GET, ranges and HEAD, with eviction, slow
 * clients, and file calls that fail or hang. Every 200 is one whole version of a PUT. No read is older than the last acknowledged write.
 * Afterwards the metrics match the disk. `KURA_MODEL_SECONDS=60 npm test -- test/cache/model.test.ts` runs longer.
 */
import { createCipheriv, randomBytes, randomInt } from 'node:crypto';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { FileReader } from '../../services/cache/disk/file-reader.ts';
import { FileWriter } from '../../services/cache/disk/file-writer.ts';
import { timeBudget } from '../../services/cache/disk/time-budget.ts';
import { type Answer, type Call, call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { storedBytes } from './support/disk.ts';
import { startFileReader } from './support/file-reader.ts';
import { HostileFiles } from './support/hostile-files.ts';
import { metric, startTestShard, type TestShard } from './support/shard.ts';

const seconds = Number(process.env.KURA_MODEL_SECONDS ?? 10);
const [writers, readers, keysOfWriter] = [6, 8, 12];

interface Version {
  readonly number: number;
  readonly id: Buffer;
  readonly length: number;
}

/** The state of a key. Each key has one writer. */
interface KeyState {
  readonly key: string;
  readonly versions: Map<string, Version>;
  started: number;
  /** The number of the last acknowledged change. A later read may not return an older version. */
  acknowledged: number;
  /** The last acknowledged change was a DELETE. */
  isRemoved: boolean;
  tag: string | undefined;
}

/** The bytes of a version. They start with its id and are derived from it. */
function bodyOf({ id, length }: Version): Buffer {
  const body = createCipheriv('aes-128-ctr', id, Buffer.alloc(16)).update(Buffer.alloc(length));
  id.copy(body);
  return body;
}

/** The version with exactly these bytes, if any. */
function versionOf(state: KeyState, body: Buffer): Version | undefined {
  const version = state.versions.get(body.subarray(0, 16).toString('hex'));
  return version !== undefined && bodyOf(version).equals(body) ? version : undefined;
}

const edges = [{}, { te: 'trailers' }] as const;

class Model {
  readonly faults: string[] = [];
  readonly counts = new Map<string, number>();
  readonly states: KeyState[];
  readonly #shard: TestShard;
  #isOver = false;

  constructor(shard: TestShard) {
    this.#shard = shard;
    this.states = Array.from({ length: writers * keysOfWriter }, (_, at) => ({
      key: `set-${at % 5}/k${at}`,
      versions: new Map<string, Version>(),
      started: 0,
      acknowledged: 0,
      isRemoved: true,
      tag: undefined,
    }));
  }

  async run(ms: number): Promise<void> {
    const work = [
      ...Array.from({ length: writers }, (_, writer) =>
        this.#repeat(() => this.#write(this.states[writer * keysOfWriter + randomInt(keysOfWriter)] as KeyState)),
      ),
      ...Array.from({ length: readers }, () => this.#repeat(() => this.#read(this.states[randomInt(this.states.length)] as KeyState))),
    ];
    await delay(ms);
    this.#isOver = true;
    await Promise.all(work);
  }

  async #repeat(step: () => Promise<void>): Promise<void> {
    while (!this.#isOver) await step();
  }

  async #send(request: Call): Promise<(Answer & { bodySent: boolean }) | undefined> {
    const headers = { ...edges[randomInt(2)], ...request.headers };
    const answer = await call(this.#shard.url, { ...request, headers }).catch(() => undefined);
    const name = `${request.method ?? 'GET'} ${answer?.status ?? 'none'}`;
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    if (answer !== undefined && answer.tookMs > 2_500) this.faults.push(`${name} took ${answer.tookMs.toFixed(0)} ms`);
    return answer;
  }

  async #write(state: KeyState): Promise<void> {
    const path = `/objects/${state.key}`;
    state.started += 1;
    const number = state.started;
    if (randomInt(8) === 0) {
      const answer = await this.#send({ method: 'DELETE', path });
      if (answer?.status === 204 || answer?.status === 404) this.#acknowledge(state, number, { isRemoved: true, tag: undefined });
      return;
    }
    const length = 16 + randomInt([100, 20_000, 300_000, 900_000][randomInt(4)] as number);
    const version: Version = { number, id: randomBytes(16), length };
    state.versions.set(version.id.toString('hex'), version);
    const body = bodyOf(version);
    const isChunked = randomInt(3) === 0;
    const condition: Record<string, string> =
      randomInt(4) === 0 ? { 'if-match': state.tag ?? '"none"' } : randomInt(6) === 0 ? { 'if-none-match': '*' } : {};
    const sent = isChunked ? Readable.from([body.subarray(0, length >> 1), body.subarray(length >> 1)]) : body;
    const headers = { ...condition, ...(isChunked ? {} : { 'content-length': length }) };
    const answer = await this.#send({ method: 'PUT', path, body: sent, headers });
    if (answer?.status !== 201) return;
    if (answer.headers['x-kura-stored'] === 'no') this.#acknowledge(state, number, { isRemoved: true, tag: undefined });
    else this.#acknowledge(state, number, { isRemoved: false, tag: answer.headers.etag });
  }

  #acknowledge(state: KeyState, number: number, change: Pick<KeyState, 'isRemoved' | 'tag'>): void {
    Object.assign(state, change);
    state.acknowledged = number;
  }

  async #read(state: KeyState): Promise<void> {
    const { acknowledged, isRemoved, tag, started } = state;
    const isRange = tag !== undefined && randomInt(3) === 0;
    const from = randomInt(50_000);
    const headers: Record<string, string> = isRange ? { range: `bytes=${from}-${from + randomInt(400_000)}`, 'if-match': tag } : {};
    const method = randomInt(8) === 0 ? 'HEAD' : 'GET';
    const answer = await this.#send({ method, path: `/objects/${state.key}`, headers });
    // A broken transfer is allowed.
    if (answer === undefined || !answer.complete || method === 'HEAD') return;
    if (answer.status === 206) this.#checkPart(state, acknowledged, answer);
    if (answer.status !== 200) return;
    const version = versionOf(state, answer.body);
    if (version === undefined) this.faults.push(`${state.key}: ${answer.body.length} bytes that no PUT stored`);
    else if (version.number < acknowledged)
      this.faults.push(`${state.key}: version ${version.number} after ${acknowledged} was acknowledged`);
    else if (isRemoved && version.number <= acknowledged) this.faults.push(`${state.key}: version ${version.number} after its removal`);
    else if (version.number > state.started || started < 0) this.faults.push(`${state.key}: a version of the future`);
  }

  /** With If-Match the part belongs to the requested version. */
  #checkPart(state: KeyState, acknowledged: number, answer: Answer): void {
    const [, first, last] = (/^bytes (\d+)-(\d+)\//.exec(answer.headers['content-range'] ?? '') ?? []).map(Number) as [
      number,
      number,
      number,
    ];
    const version = [...state.versions.values()].find(({ number }) => number === acknowledged);
    if (
      version === undefined ||
      !bodyOf(version)
        .subarray(first, last + 1)
        .equals(answer.body)
    ) {
      this.faults.push(`${state.key}: a range of another version`);
    }
  }
}

/** Clients that start an upload or a download and then stall. */
function startSlowClients(shard: TestShard, count: number): () => void {
  const { hostname, port } = new URL(shard.url);
  const sockets = Array.from({ length: count }, (_, at) => {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {});
    if (at % 2 === 0) {
      socket.write(`PUT /objects/slow/${at} HTTP/1.1\r\nhost: kura\r\ncontent-length: 900000\r\n\r\n`);
      socket.write(randomBytes(at % 4 === 0 ? 100 : 150_000));
    } else {
      socket.pause();
      socket.write(`GET /objects/set-${at % 5}/k${at} HTTP/1.1\r\nhost: kura\r\n\r\n`.repeat(3));
    }
    return socket;
  });
  return () => {
    for (const socket of sockets) socket.destroy();
  };
}

for (const place of ['the thread pool', 'a thread'] as const)
  test.serial(
    `with failing and hanging file calls and small files in ${place}, each 200 is a whole current version, and the metrics match the disk`,
    (t) => {
      const onFail = (error: unknown) => t.fail(String(error));
      return place === 'a thread' ? testModel(t, new FileWriter({ onFail }), startFileReader(t)) : testModel(t);
    },
  );

async function testModel(t: ExecutionContext, writer?: FileWriter, reader?: FileReader): Promise<void> {
  t.timeout((seconds + 120) * 1000);
  t.teardown(() => writer?.close());
  const hostile = new HostileFiles(writer, reader);
  const shard = await startTestShard(t, {
    files: hostile.files,
    budget: timeBudget,
    environment: {
      KURA_CACHE_MAX_BYTES: '24Mi',
      KURA_CACHE_MAX_OBJECTS: '100',
      KURA_CACHE_OPEN_FILES: '16',
      KURA_CACHE_BUFFER_BYTES: '8Mi',
      KURA_CACHE_SCRUB: '20Mi',
      KURA_CACHE_WRITER_TIMEOUT: '2s',
      KURA_CACHE_READER_TIMEOUT: '2s',
    },
  });
  const model = new Model(shard);
  const stopSlow = startSlowClients(shard, 20);
  let isOver = false;
  const trouble = (async () => {
    while (!isOver) {
      await delay(randomInt(300));
      const kind = randomInt(4);
      if (kind === 0)
        hostile.fails.set(
          (['open', 'read', 'write', 'rename', 'unlink'] as const)[randomInt(5)] as 'open',
          randomInt(20) === 0 ? 'ENOSPC' : 'EIO',
        );
      else if (kind === 1) hostile.hangs.add((['open', 'read', 'write', 'rename', 'unlink'] as const)[randomInt(5)] as 'open');
      else if (kind === 2) hostile.hangAll();
      await delay(randomInt(kind === 2 ? 1_500 : 200));
      hostile.heal();
    }
  })();
  await model.run(seconds * 1000);
  isOver = true;
  await trouble;
  hostile.heal();
  stopSlow();
  t.deepEqual(model.faults.slice(0, 5), []);
  t.log(Object.fromEntries([...model.counts].sort()));
  await waitFor('the shard serves', async () => (await call(shard.url, { path: '/healthz' })).status === 200);
  let account = {};
  await waitFor('the metrics match the disk', async () => {
    const [reserved, stored, onDisk] = [
      await metric(shard, 'kura_cache_reserved_bytes'),
      await metric(shard, 'kura_cache_stored_bytes'),
      await storedBytes(shard.directory),
    ];
    account = { reserved, stored, onDisk };
    return reserved === 0 && stored === onDisk;
  }).finally(() => t.log(account));
  t.is(await metric(shard, 'kura_cache_pending_file_calls'), 0);
  for (const state of model.states) {
    const answer = await call(shard.url, { path: `/objects/${state.key}` });
    t.true(answer.status === 404 || versionOf(state, answer.body) !== undefined, state.key);
  }
}
