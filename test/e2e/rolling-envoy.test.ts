/** A rolling restart of the Envoys, each with its authz, under load: what a rollout of Deployment kura-envoy costs workloads. */
import { createHash } from 'node:crypto';
import { Agent, request } from 'node:http';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { waitFor } from '../support/wait.ts';
import { startEnvoyPod, startTcpService } from './support/envoy-pod.ts';
import { startLocalSystem } from './support/system.ts';

const connections = 32;
const large = Buffer.alloc(24 * 2 ** 20, 'kura');
const paths = Array.from({ length: 100 }, (_, index) => `/objects/vision/rollout/${index}`);
const sha = (body: Buffer): string => createHash('sha256').update(body).digest('hex');

interface Slowly {
  readonly port: number;
  readonly begun: () => void;
}

interface Outcome {
  readonly status: number;
  readonly body: Buffer;
}

test('a rolling restart of all Envoys and authz under load fails no GET and no PUT, those in flight included', async (t) => {
  const system = await startLocalSystem({ args: ['--shards', '2'] });
  t.teardown(() => system.stop());
  const token = await system.token('vision/trainer');
  const first = await Promise.all([startEnvoyPod(t, system), startEnvoyPod(t, system)]);
  const service = await startTcpService(t, first);
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  t.teardown(() => agent.destroy());
  /** `slowly`: through this port, some 5 s for the large object; calls `begun` once the body flows. */
  const ask = (method: string, path: string, { body, slowly }: { body?: Buffer; slowly?: Slowly } = {}): Promise<Outcome> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-length': body.length }) };
      const outgoing = request(
        { port: slowly?.port ?? service.port, host: '127.0.0.1', agent: slowly ? new Agent() : agent, method, path, headers },
        (response) => {
          const chunks: Buffer[] = [];
          (slowly && body === undefined ? Readable.from(trickle(response, slowly.begun)) : response)
            .on('data', (chunk: Buffer) => chunks.push(chunk))
            .on('error', reject)
            .on('end', () => resolve({ status: response.statusCode as number, body: Buffer.concat(chunks) }));
        },
      );
      outgoing.on('error', reject);
      if (slowly && body !== undefined) Readable.from(trickle(Readable.from(pieces(body)), slowly.begun)).pipe(outgoing);
      else outgoing.end(body);
    });
  for (const path of paths) t.is((await ask('PUT', path, { body: Buffer.from(`of ${path}`) })).status, 201);
  t.is((await ask('PUT', '/objects/vision/rollout/large', { body: large })).status, 201);

  const stopping = new AbortController();
  const failures: string[] = [];
  let answers = 0;
  const worker = async (index: number): Promise<void> => {
    for (let turn = index; !stopping.signal.aborted; turn++) {
      const path = paths[turn % paths.length] as string;
      const isPut = turn % 10 === 0;
      try {
        const { status, body } = isPut ? await ask('PUT', path, { body: Buffer.from(`of ${path}`) }) : await ask('GET', path);
        if (status !== (isPut ? 201 : 200) || (!isPut && body.toString() !== `of ${path}`)) failures.push(`${path}: ${status} ${body}`);
        answers += 1;
      } catch (error) {
        failures.push(`${path}: ${(error as Error).message}`);
      }
    }
  };
  const load = Array.from({ length: connections - 4 }, (_, index) => worker(index * 7));
  try {
    await waitFor('load', () => answers > 200);
    // maxSurge 1, maxUnavailable 0: the next Pod is ready before one goes.
    for (const old of first) {
      service.pods.push(await startEnvoyPod(t, system));
      const begun = new Set<string>();
      const slowly = (what: string): Slowly => ({ port: old.port, begun: () => begun.add(what) });
      const inFlight = Promise.all([
        ask('GET', '/objects/vision/rollout/large', { slowly: slowly('GET') }),
        ask('PUT', '/objects/vision/rollout/slow', { slowly: slowly('PUT'), body: large }),
      ]);
      await waitFor('both are under way', () => begun.size === 2);
      t.deepEqual(await old.terminate(), { status: 0, stderr: '' });
      service.pods.splice(service.pods.indexOf(old), 1);
      const [read, written] = await inFlight;
      t.is(read.status, 200);
      t.is(sha(read.body), sha(large));
      t.is(written.status, 201, String(written.body));
    }
  } finally {
    stopping.abort();
    await Promise.all(load);
  }
  t.log(`${answers} answers`);
  t.deepEqual(failures, []);
});

function* pieces(body: Buffer): Generator<Buffer> {
  for (let at = 0; at < body.length; at += 2 ** 20) yield body.subarray(at, at + 2 ** 20);
}

async function* trickle(source: Readable, begun: () => void): AsyncGenerator<Buffer> {
  for await (const chunk of source as AsyncIterable<Buffer>) {
    yield chunk;
    begun();
    await delay((chunk.length / 2 ** 20) * 200);
  }
}
