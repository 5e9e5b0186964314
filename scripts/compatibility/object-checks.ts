/** Checks of each mixture: it stores, reads and removes objects, and rejects requests without permission. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { MixedSystem } from './mixed-system.ts';

const objectsEachStep = 40;
/** Above KURA_CACHE_DIRECT_MIN_BYTES, so that the direct way has a ticket. */
const largeBytes = 1024 ** 2;
const maxSettleMs = 60_000;
const as = 'vision/trainer';

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly shard: string | null;
}

export class ObjectChecks {
  readonly #system: MixedSystem;
  readonly #stored = new Map<string, string>();

  constructor(system: MixedSystem) {
    this.#system = system;
  }

  /** Returns a line of counts. Throws at the first response that a client must not get. */
  async run(step: string): Promise<string> {
    await this.#settle();
    const { hits, misses } = await this.#readAll();
    const shards = new Set<string>();
    for (let index = 0; index < objectsEachStep; index++) {
      const key = `vision/compatibility/${step}/${index}`;
      const body = index === 0 ? 'x'.repeat(largeBytes) : `${step} ${index}`;
      const { status } = await this.#call('PUT', `/objects/${key}`, { body });
      assert.equal(status, 201, `PUT ${key}`);
      this.#stored.set(key, digest(Buffer.from(body)));
      const answer = await this.#call('GET', `/objects/${key}`);
      assert.equal(answer.status, 200, `GET ${key}`);
      assert.equal(digest(answer.body), this.#stored.get(key), `GET ${key}`);
      shards.add(String(answer.shard));
    }
    await this.#direct(`vision/compatibility/${step}/0`);
    await this.#refusals(step);
    return `${hits} of ${hits + misses} earlier objects there, ${objectsEachStep} stored and read on ${shards.size} shards`;
  }

  /** A part that was replaced needs a moment: Envoy connects to eds, and checks the shards. */
  async #settle(): Promise<void> {
    const deadline = performance.now() + maxSettleMs;
    const keys = Array.from({ length: objectsEachStep }, (_, index) => `/objects/vision/compatibility/settle/${index}`);
    for (;;) {
      const statuses = await Promise.all(
        keys.map(async (key) => (await this.#call('PUT', key, { body: 'x' }).catch(() => undefined))?.status),
      );
      const answers = await Promise.all(keys.map((key) => this.#call('GET', key).catch(() => undefined)));
      const shards = new Set(answers.map((answer) => answer?.shard));
      if (statuses.every((status) => status === 201) && answers.every((answer) => answer?.status === 200) && shards.size === 4) return;
      if (performance.now() > deadline) throw new Error(`not settled after ${maxSettleMs / 1000} s: ${statuses}, ${[...shards]}`);
      await delay(200);
    }
  }

  /** An object is whole or a miss. */
  async #readAll(): Promise<{ hits: number; misses: number }> {
    let hits = 0;
    for (const [key, expected] of this.#stored) {
      const { status, body } = await this.#call('GET', `/objects/${key}`);
      assert.ok(status === 200 || status === 404, `GET ${key}: ${status}`);
      if (status === 404) continue;
      assert.equal(digest(body), expected, `GET ${key}`);
      hits += 1;
    }
    return { hits, misses: this.#stored.size - hits };
  }

  /** Envoy redirects to the shard with a ticket, and the shard accepts it. */
  async #direct(key: string): Promise<void> {
    const redirect = await this.#fetch('GET', `/direct/${key}`, { as });
    await redirect.arrayBuffer();
    assert.equal(redirect.status, 307, `GET /direct/${key}`);
    const response = await fetch(redirect.headers.get('location') as string, { signal: AbortSignal.timeout(maxSettleMs) });
    assert.equal(response.status, 200, `GET of the ticket for ${key}`);
    assert.equal(digest(Buffer.from(await response.arrayBuffer())), this.#stored.get(key), `GET of the ticket for ${key}`);
  }

  async #refusals(step: string): Promise<void> {
    assert.equal((await this.#call('GET', '/objects/vision/x', { as: undefined })).status, 401, 'without a token');
    assert.equal((await this.#call('PUT', '/objects/nlp/x', { body: 'x' })).status, 403, 'a prefix of another namespace');
    const gone = `/objects/vision/compatibility/gone/${step}`;
    await this.#call('PUT', gone, { body: 'x' });
    assert.equal((await this.#call('DELETE', gone)).status, 204, 'DELETE');
    assert.equal((await this.#call('GET', gone)).status, 404, 'GET after DELETE');
  }

  async #call(method: string, path: string, options: { as?: string | undefined; body?: string } = {}): Promise<Answer> {
    const response = await this.#fetch(method, path, { as, ...options });
    return {
      status: response.status,
      body: Buffer.from(await response.arrayBuffer()),
      shard: response.headers.get('x-kura-shard'),
    };
  }

  async #fetch(method: string, path: string, { as: workload, body }: { as?: string | undefined; body?: string }): Promise<Response> {
    const token = workload === undefined ? undefined : (await readFile(this.#system.tokens[workload] as string, 'utf8')).trim();
    return await fetch(`${this.#system.url}${path}`, {
      method,
      redirect: 'manual',
      signal: AbortSignal.timeout(10_000),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body }),
    });
  }
}

function digest(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex');
}
