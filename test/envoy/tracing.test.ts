/** Traces and request ids: the real Envoy with the tracing fragment, authz, a shard, and a receiver of OTLP. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { freePorts } from '../../services/local/free-ports.ts';
import { startAuthz, startCluster } from '../authz/support/authz.ts';
import { startBootstrapEnvoy } from '../support/bootstrap-envoy.ts';
import { call } from '../support/http.ts';
import { startOtlpReceiver } from '../support/otlp-receiver.ts';
import { startService, temporaryFolder } from '../support/service.ts';
import { addTracing } from '../support/tracing.ts';
import { waitFor } from '../support/wait.ts';
import { allow, grant } from './support/decisions.ts';
import { setShard, startRig } from './support/rig.ts';

const clientSpan = 'b7ad6b7169203331';
const newTrace = () => randomBytes(16).toString('hex');
const traceparentOf = (traceId: string, flags = '01') => `00-${traceId}-${clientSpan}-${flags}`;

/** Whole lines of a log that are JSON. */
function lines(output: string): Record<string, unknown>[] {
  return output
    .slice(0, output.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function startPath(t: ExecutionContext) {
  const folder = await temporaryFolder(t);
  const otlp = await startOtlpReceiver();
  t.teardown(() => otlp.close());
  const credential = path.join(folder, 'keys');
  await writeFile(credential, randomBytes(32).toString('base64url'));
  const cluster = await startCluster(t);
  const { service: authz } = await startAuthz(t, cluster.kubeconfig, {
    KURA_AUTHZ_CREDENTIAL_FILE: credential,
    KURA_AUTHZ_TRACES_ENDPOINT: `http://127.0.0.1:${otlp.port}`,
  });
  const shard = await startService('cache', {
    KURA_CACHE_LISTEN: '127.0.0.1:0',
    KURA_CACHE_METRICS_LISTEN: '127.0.0.1:0',
    KURA_CACHE_DIRECTORY: path.join(folder, 'shard'),
    KURA_CACHE_CREDENTIAL_FILE: credential,
    KURA_CACHE_MAX_BYTES: '64Mi',
    KURA_CACHE_REQUEST_LOG: 'true',
  });
  t.teardown(() => shard.stop('SIGKILL'));
  const envoy = await startBootstrapEnvoy({
    folder,
    authzSocket: authz.listening.grpc as string,
    edsPort: undefined,
    edit: (bootstrap) => {
      setShard(bootstrap, Number(shard.listening.objects?.split(':').at(-1)));
      addTracing(bootstrap, otlp.port);
    },
    args: ['--file-flush-interval-msec', '100'],
  });
  t.teardown(envoy.stop);
  const url = `http://127.0.0.1:${envoy.ports.objects}`;
  await waitFor('Envoy serves', async () => {
    if (envoy.child.exitCode !== null) throw new Error(envoy.printed.errors);
    return (await fetch(`http://127.0.0.1:${envoy.ports.admin}/ready`)).ok;
  });
  return { cluster, authz, shard, envoy, otlp, url };
}

test('one request is one trace under the span of the client, and its id is in the lines of Envoy, authz and the shard', async (t) => {
  const { cluster, authz, shard, envoy, otlp, url } = await startPath(t);
  const key = 'vision/a-name-of-nobody';
  let pods = 0;
  // On a busy machine a part can exceed its timeout. Each try has a new token, which authz has to review.
  const { answer, token, traceId } = await waitFor('a request that all parts answer in time', async () => {
    const { token } = await cluster.run(`trainer-${pods++}`);
    const traceId = newTrace();
    const headers = { traceparent: traceparentOf(traceId), 'x-request-id': token };
    const answer = await call(url, { path: `/objects/${key}`, token, headers });
    return answer.status === 404 && { answer, token, traceId };
  });

  const find = (service: string, name: RegExp) =>
    waitFor(`the span ${name}`, () =>
      otlp.spans.find((span) => span.traceId === traceId && span.service === service && name.test(span.name)),
    );
  const ingress = await find('kura-envoy', /^ingress$/);
  t.is(ingress.parentId, clientSpan);
  const asked = await find('kura-envoy', /Check egress$/);
  t.is(asked.parentId, ingress.spanId);
  t.is((await find('kura-envoy', /^router kura-cache/)).parentId, ingress.spanId);
  const check = await find('kura-authz', /^check$/);
  t.is(check.parentId, asked.spanId);
  t.is((await find('kura-authz', /^TokenReview$/)).parentId, check.spanId);

  const requestId = ingress.attributes['guid:x-request-id'] as string;
  t.is(requestId, answer.headers['x-request-id'] as string);
  t.like(check.attributes, { 'kura.decision': 'allow', 'kura.who': 'vision/trainer', 'kura.rule': 'own', 'kura.request_id': requestId });
  const line = (output: () => string, of: (each: Record<string, unknown>) => unknown) =>
    waitFor('the line', () => lines(output()).find((each) => of(each) === requestId));
  t.is(
    (
      await line(
        () => envoy.printed.accessLog,
        (each) => each.request_id,
      )
    ).trace_id,
    traceId,
  );
  const audit = (await line(authz.output, (each) => (each.audit as { requestId?: string } | undefined)?.requestId)).audit;
  t.like(audit, { decision: 'allow', key, traceId });
  const { request } = await line(shard.output, (each) => (each.request as { requestId?: string } | undefined)?.requestId);
  t.like(request, { traceId, method: 'GET', result: 'miss' });

  for (const part of token.split('.')) {
    for (const output of [envoy.printed.accessLog, envoy.printed.errors, authz.output(), shard.output(), JSON.stringify(otlp.spans)])
      t.false(output.includes(part), 'no part of a token is in a log or a span');
  }
  t.false(
    [envoy.printed.accessLog, shard.output(), JSON.stringify(otlp.spans)].some((output) => output.includes(key)),
    'nor is the key',
  );
});

test('a request that the client does not sample has an id and no spans, and a malformed traceparent is logged nowhere', async (t) => {
  const { cluster, authz, shard, envoy, otlp, url } = await startPath(t);
  const { token } = await cluster.run('trainer-0');
  const [unsampled, last] = [newTrace(), newTrace()];
  const secret = 'eyJhbGciOiJSUzI1NiJ9-01';
  for (const traceparent of [traceparentOf(unsampled, '00'), secret, traceparentOf(last)]) {
    const put = { path: '/objects/vision/x', method: 'PUT', body: 'x', token, headers: { traceparent, 'content-length': 1 } };
    await waitFor('a PUT that all parts answer in time', async () => (await call(url, put)).status === 201);
  }
  await waitFor('the spans of the last request', () => otlp.spans.some(({ traceId, name }) => traceId === last && name === 'ingress'));
  t.false(otlp.spans.some(({ traceId }) => traceId === unsampled));
  // Each PUT is a line.
  const written = await waitFor('three lines', () => {
    const puts = lines(envoy.printed.accessLog).filter(({ method, status }) => method === 'PUT' && status === 201);
    return puts.length === 3 && puts;
  });
  t.deepEqual(
    written.map(({ trace_id: traceId }) => [unsampled, last].includes(traceId as string)),
    [true, false, true],
  );
  t.is(new Set(written.map(({ request_id: id }) => id)).size, 3);
  const traced = () => lines(shard.output()).flatMap(({ request }) => (request as { traceId?: string } | undefined)?.traceId ?? []);
  await waitFor('the line of the shard', () => traced().length > 0);
  t.deepEqual([...new Set(traced())], [last]);
  for (const output of [envoy.printed.accessLog, authz.output(), shard.output(), JSON.stringify(otlp.spans)])
    t.false(output.includes(secret));
});

test('while the collector is away, Envoy serves requests as usual', async (t) => {
  const [port] = (await freePorts(1)) as [number];
  const rig = await startRig(t, { edit: (bootstrap) => addTracing(bootstrap, port) });
  rig.decide = () => allow(grant());
  for (let round = 0; round < 200; round += 1) {
    const sampled = { headers: { traceparent: traceparentOf(newTrace()) } };
    await waitFor('a response of the shard', async () => (await rig.call(sampled)) === 404);
  }
  t.true(rig.recorder.requests.length >= 200);
});

test('without the fragment Envoy makes no request id, and it passes a traceparent on unchanged', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  const traceparent = traceparentOf(newTrace());
  for (let round = 0; round < 2; round += 1) await rig.call({ headers: { traceparent } });
  t.true(rig.asked.length > 0 && rig.recorder.requests.length > 0);
  for (const { requestId, trace } of rig.asked) t.deepEqual([requestId, trace], [undefined, undefined]);
  for (const { headers } of rig.recorder.requests) {
    t.is(headers['x-request-id'], undefined);
    t.is(headers.traceparent, traceparent);
  }
});
