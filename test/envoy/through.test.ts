/** /through/ in the real Envoy, with shards that the test controls: the shard of a key, the headers, the retries and the times. */
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { namedEntry } from '../../services/local/bootstrap.ts';
import { freePorts } from '../../services/local/free-ports.ts';
import { listen } from '../../services/shared/listen.ts';
import { readMetric } from '../support/metrics.ts';
import { allow, grant, headersOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

interface Seen {
  readonly shard: number;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const miss: Answer = (request, response) => void request.resume().on('end', () => response.writeHead(404).end());

/** Envoy with `running` shards, and one at a port without a listener for each of `absent`. All answer alike; the test changes how. */
async function setting(t: ExecutionContext, { running = 1, absent = 0 } = {}) {
  const world = { answer: miss };
  const seen: Seen[] = [];
  const ports = await freePorts(absent);
  for (let shard = 0; shard < running; shard++) {
    const server = createServer((request, response) => {
      seen.push({ shard, method: request.method ?? '', url: request.url ?? '', headers: request.headers });
      world.answer(request, response);
    });
    const { address, close } = await listen(server, { host: '127.0.0.1', port: 0 });
    t.teardown(() => {
      server.closeAllConnections();
      return close();
    });
    ports.push(Number(address.split(':').at(-1)));
  }
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const endpoints = ports.map((port_value) => ({ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value } } } }));
      const cache = namedEntry(bootstrap, ['static_resources', 'clusters'], 'kura-cache');
      cache.setIn(['load_assignment', 'endpoints'], bootstrap.createNode([{ lb_endpoints: endpoints }]));
      // A shard that breaks connections stays in use, so that each request finds the same shards.
      cache.delete('outlier_detection');
    },
  });
  rig.decide = () => allow(grant());
  return { world, seen, rig };
}

test('a key has one shard under all three paths, with each method', async (t) => {
  const { seen, rig } = await setting(t, { running: 4 });
  const keys = Array.from({ length: 24 }, (_, index) => `vision/k${index}?a=/through/`);
  const shardOf = async (request: Parameters<Rig['call']>[0]): Promise<number | undefined> => {
    seen.length = 0;
    await rig.call(request);
    return seen[0]?.shard;
  };
  const shards = new Set<number | undefined>();
  for (const key of keys) {
    const shard = await shardOf({ key });
    shards.add(shard);
    for (const prefix of ['/objects/', '/direct/', '/through/'])
      for (const method of ['GET', 'HEAD', 'PUT', 'DELETE'])
        t.is(await shardOf({ method, prefix, key }), shard, `${method} ${prefix}${key}`);
  }
  t.true(shards.size > 1 && !shards.has(undefined));
});

test('a shard gets the path as it is, the headers of authz, and no header x-kura-* of the client', async (t) => {
  const { seen, rig } = await setting(t);
  const given = headersOf({ fill: 'nfs' });
  rig.decide = () => allow(undefined, given);
  const headers = { 'x-kura-caller': 'nlp/eval/p', 'X-Kura-Terms': 'max-object-bytes=9; fill=other; exp=1', 'x-kura-cache': 'hit' };
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE']) {
    t.is(await rig.call({ method, prefix: '/through/', key: 'vision/a%28b?c', headers }), 404, method);
    const { url, headers: got } = seen.at(-1) as Seen;
    t.is(url, '/through/vision/a(b?c');
    t.deepEqual(
      Object.entries(got).filter(([name]) => name.startsWith('x-kura-')),
      [
        ['x-kura-caller', given.caller],
        ['x-kura-terms', given.terms],
      ],
    );
    t.is(got.authorization, undefined);
  }
});

test('a read goes to the next shard if the shard of the key does not accept the connection', async (t) => {
  // Envoy draws the next shard up to five times. With eight shards, it practically never draws the absent one each time.
  const { seen, rig } = await setting(t, { running: 7, absent: 1 });
  const keys = 64;
  for (let index = 0; index < keys; index++) t.is(await rig.call({ prefix: '/through/', key: `vision/k${index}` }), 404);
  t.is(seen.length, keys);
  const retries = await readMetric(
    `http://127.0.0.1:${rig.metricsPort}/metrics`,
    'envoy_cluster_upstream_rq_retry',
    'envoy_cluster_name="kura-cache"',
  );
  t.true(retries > 0 && retries < keys / 2, `${retries}`);
});

test('a read that a shard has begun is not repeated, and /objects/ repeats it', async (t) => {
  const { world, seen, rig } = await setting(t, { running: 2 });
  world.answer = (_request, response) => response.destroy();
  for (const [prefix, tries] of [
    ['/through/', 1],
    ['/objects/', 2],
  ] as const) {
    for (const method of ['GET', 'HEAD']) {
      seen.length = 0;
      t.is(await rig.call({ method, prefix }), 503, `${method} ${prefix}`);
      t.is(seen.length, tries, `${method} ${prefix}`);
    }
  }
  world.answer = (_request, response) => response.writeHead(503, { 'retry-after': '7' }).end();
  seen.length = 0;
  t.is(await rig.call({ prefix: '/through/' }), 503, 'a shard that is busy');
  t.is(seen.length, 1);
});

test('a read under /through/ gets a first byte that comes after 10 s, and other requests do not wait so long', async (t) => {
  const { world, rig } = await setting(t, { running: 2 });
  world.answer = (request, response) => {
    setTimeout(() => response.writeHead(200).end(), 10_000).unref();
    request.resume();
  };
  const startedAt = performance.now();
  const timed = async (request: Parameters<Rig['call']>[0]): Promise<readonly [number, boolean]> => {
    const status = await rig.call(request);
    return [status, performance.now() - startedAt < 10_000];
  };
  const [through, ...others] = await Promise.all([
    timed({ prefix: '/through/' }),
    timed({ prefix: '/objects/' }),
    timed({ prefix: '/direct/' }),
    timed({ method: 'PUT', prefix: '/objects/' }),
    timed({ method: 'PUT', prefix: '/through/' }),
    timed({ method: 'DELETE', prefix: '/through/' }),
  ]);
  t.deepEqual(through, [200, false]);
  for (const other of others) t.deepEqual(other, [503, true]);
});
