/** What the death of each part costs a client, through the real Envoy. */
import { connect } from 'node:net';
import anyTest, { type TestFn } from 'ava';
import type { Answer } from '../support/http.ts';
import { readMetric } from '../support/metrics.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  // Without grants each request asks authz, and results of reviews end soon: what authz does without the API is seen at once.
  const environment = { KURA_AUTHZ_GRANT: '0s', KURA_AUTHZ_RESULT_AGE: '1s', KURA_AUTHZ_WATCHED_RESULT_AGE: '1s' };
  system = await startLocalSystem({ environment });
  for (const path of keys) await system.call({ as, method: 'PUT', path, body: `of ${path}` });
});
test.after.always(() => system?.stop());

const as = 'vision/trainer';
const keys = Array.from({ length: 200 }, (_, index) => `/objects/vision/faults/${index}`);
const get = (path: string): Promise<Answer> => system.call({ as, path });

async function urlOf(pod: string): Promise<string | undefined> {
  return (await system.local()).shards.find(({ name }) => name.startsWith(pod))?.url;
}

/** Runs `work` while nobody starts again what dies. */
async function unsupervised(work: () => Promise<void>): Promise<void> {
  system.child.kill('SIGSTOP');
  await work().finally(() => system.child.kill('SIGCONT'));
}

/** Known tokens that were let in although the API did not answer. */
async function servedWithoutApi(): Promise<number> {
  return await readMetric((await system.local()).authz.metricsUrl, 'kura_authz_served_without_api_total');
}

/** Waits until every key is found again: what an earlier test killed is back and Envoy knows where. */
function settled(): Promise<Map<string, string>> {
  return waitFor('every key is found', async () => {
    const shards = await placement();
    return shards.size === keys.length && shards;
  });
}

/** Which shard holds each key, as the answers themselves say. */
async function placement(): Promise<Map<string, string>> {
  const shards = new Map<string, string>();
  for (const path of keys) {
    const answer = await get(path);
    if (answer.status === 200) shards.set(path, String(answer.headers['x-kura-shard']));
  }
  return shards;
}

test.serial(
  'a killed shard costs only its own keys, as misses within 3 s, and has them again when it is back on another port',
  async (t) => {
    const before = await settled();
    t.is(new Set(before.values()).size, 4);
    const victim = 'kura-cache-1';
    const formerUrl = await urlOf(victim);

    const pid = await system.signal(victim, 'SIGKILL');
    for (const path of keys) {
      const answer = await get(path);
      t.true(answer.tookMs < 3_000, `${path} took ${answer.tookMs} ms`);
      if (answer.status === 200) t.is(answer.body.toString(), `of ${path}`);
      else t.is(answer.status, 404, `${path}: ${answer.body}`);
      if (!before.get(path)?.startsWith(victim)) t.is(answer.status, 200, path);
    }

    await system.restarted(victim, pid);
    t.deepEqual(await settled(), before);
    t.not(await urlOf(victim), formerUrl);
  },
);

test.serial('a shard killed in mid-body gives a broken transfer within 2 s, never a short object', async (t) => {
  const path = '/objects/vision/faults/large';
  const size = 64 * 2 ** 20;
  await system.call({ as, method: 'PUT', path, body: Buffer.alloc(size, 'x') });
  const { url } = await system.local();
  const { hostname, port } = new URL(url);
  const token = await system.token(as);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.write(`GET ${path} HTTP/1.1\r\nhost: kura\r\nauthorization: Bearer ${token}\r\n\r\n`);
  const head: Buffer = await new Promise((resolve, reject) => {
    socket.once('data', resolve);
    socket.once('error', reject);
  });
  socket.pause();
  t.regex(head.toString('latin1'), /^HTTP\/1\.1 200 /);
  const shard = /x-kura-shard: ([^/\r]+)/i.exec(head.toString('latin1'))?.[1] as string;
  let received = head.length;
  socket.on('data', (chunk) => {
    received += chunk.length;
  });

  const pid = await system.signal(shard, 'SIGKILL');
  const killedAt = performance.now();
  socket.resume();
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('close', resolve));
  t.true(performance.now() - killedAt < 2_000);
  t.true(received < size);
  await system.restarted(shard, pid);
});

test.serial(
  'a hung shard costs its keys a miss after 0.75 s, for at most 5 s, then misses at once, and has them again when it goes on',
  async (t) => {
    const before = await settled();
    const victim = 'kura-cache-3';
    const path = [...before].find(([, shard]) => shard.startsWith(victim))?.[0] as string;
    const pid = await system.signal(victim, 'SIGSTOP');
    const hungAt = performance.now();
    try {
      await waitFor('its keys are misses at once', async () => {
        const { status, tookMs } = await get(path);
        t.is(status, 404);
        t.true(tookMs < 3_000, `took ${tookMs} ms`);
        return tookMs < 500;
      });
      t.true(performance.now() - hungAt < 6_500, `${performance.now() - hungAt} ms`);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    t.deepEqual(await settled(), before);
  },
);

test.serial('an upload to a hung shard is a quick 503', async (t) => {
  const before = await settled();
  const victim = 'kura-cache-2';
  const path = [...before].find(([, shard]) => shard.startsWith(victim))?.[0] as string;
  const pid = await system.signal(victim, 'SIGSTOP');
  try {
    const answer = await system.call({ as, method: 'PUT', path, body: `of ${path}` });
    t.is(answer.status, 503);
    t.is(JSON.parse(answer.body.toString()).code, 'shard-unavailable');
    t.is(answer.headers['retry-after'], '1');
    t.true(answer.tookMs < 3_000, `took ${answer.tookMs} ms`);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  t.deepEqual(await settled(), before);
});

test.serial('when every shard is gone the answer is 503 at once', async (t) => {
  const before = await settled();
  const names = Array.from({ length: 4 }, (_, index) => `kura-cache-${index}`);
  const pids = new Map<string, number>();
  await unsupervised(async () => {
    for (const name of names) pids.set(name, await system.signal(name, 'SIGKILL'));
    for (const path of keys.slice(0, 20)) {
      const answer = await get(path);
      t.is(answer.status, 503, path);
      t.true(answer.tookMs < 1_000, `took ${answer.tookMs} ms`);
      t.is(JSON.parse(answer.body.toString()).code, 'shard-unavailable');
      t.is(answer.headers['retry-after'], '1');
    }
  });
  for (const [name, pid] of pids) await system.restarted(name, pid);
  t.deepEqual(await settled(), before);
});

test.serial('traffic goes on without eds, and changes flow again when it is back', async (t) => {
  const before = await settled();
  const eds = await system.signal('eds', 'SIGKILL');
  for (const path of keys.slice(0, 20)) t.is((await get(path)).status, 200, path);
  await system.restarted('eds', eds);
  const shard = await system.signal('kura-cache-2', 'SIGKILL');
  await system.restarted('kura-cache-2', shard);
  t.deepEqual(await settled(), before);
});

test.serial('without authz every request is a quick 503 with Retry-After and a problem body; then it is back by itself', async (t) => {
  const envoy = (await system.local()).processes.envoy;
  const pid = await system.signal('authz', 'SIGSTOP');
  const hung = await get(keys[0] as string);
  t.is(hung.status, 503);
  t.true(hung.tookMs < 3_000);
  t.is(hung.headers['retry-after'], '1');
  t.is(JSON.parse(hung.body.toString()).code, 'authorization-unavailable');

  await unsupervised(async () => {
    process.kill(pid, 'SIGKILL');
    const dead = await get(keys[0] as string);
    t.is(dead.status, 503);
    t.is(dead.headers['content-type'], 'application/problem+json');
    t.is(dead.headers['retry-after'], '1');
    t.is(JSON.parse(dead.body.toString()).code, 'authorization-unavailable');
    t.true(dead.tookMs < 3_000, `took ${dead.tookMs} ms`);
  });
  await system.restarted('authz', pid);
  await waitFor('requests are let in again', async () => (await get(keys[0] as string)).status === 200);
  t.is((await system.local()).processes.envoy, envoy);
});

test.serial('without the Kubernetes API known tokens go on and new ones get 503, never 401', async (t) => {
  t.is((await get(keys[0] as string)).status, 200);
  const unknown = await system.token('nlp/eval');
  const before = await servedWithoutApi();
  const pid = await system.signal('kubernetes', 'SIGSTOP');
  try {
    await waitFor('a known token goes on past the time of its review', async () => {
      t.is((await get(keys[0] as string)).status, 200);
      return (await servedWithoutApi()) > before;
    });
    const answer = await system.call({ path: '/objects/nlp/x', token: unknown });
    t.is(answer.status, 503);
    t.true(answer.tookMs < 3_000, `took ${answer.tookMs} ms`);
    t.is(answer.headers['retry-after'], '1');
    t.is(answer.headers['content-type'], 'application/problem+json');
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  await waitFor('new tokens are let in again', async () => (await system.call({ path: '/objects/nlp/x', token: unknown })).status === 404);

  const killed = await system.signal('kubernetes', 'SIGKILL');
  t.is((await get(keys[0] as string)).status, 200);
  await system.restarted('kubernetes', killed);
  await waitFor('the API is back for all', async () => (await system.call({ as: 'nlp/trainer', path: '/objects/nlp/y' })).status === 404);
});
