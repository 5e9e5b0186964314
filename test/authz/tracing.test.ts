/** Spans of authz without Envoy. test/envoy/tracing.test.ts has the whole path. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import test from 'ava';
import type { Decision, Question } from '../../services/authz/decision.ts';
import { startTracing } from '../../services/authz/tracing.ts';
import type { Logger } from '../../services/shared/log.ts';
import { startOtlpReceiver } from '../support/otlp-receiver.ts';
import { waitFor } from '../support/wait.ts';

const trace = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', isSampled: true };
const question: Question = {
  method: 'GET',
  target: '/objects/vision/x',
  token: 'secret',
  contentLength: undefined,
  receivedAt: undefined,
  trace,
};
const forbidden: Decision = {
  kind: 'forbidden',
  reason: 'no',
  detail: 'no',
  identity: { namespace: 'vision', serviceAccount: 'trainer' },
  rule: 'default',
  difference: undefined,
};

function recording() {
  const warnings: { reason: string; spans: number }[] = [];
  return { warnings, log: { warn: (line: { reason: string; spans: number }) => warnings.push(line) } as unknown as Logger };
}

test('a check that throws has a span too, and a check outside of a sampled trace has none', async (t) => {
  const otlp = await startOtlpReceiver();
  t.teardown(() => otlp.close());
  const tracing = startTracing({ url: `http://127.0.0.1:${otlp.port}`, log: recording().log });
  const decide = tracing.traceChecks(async () => forbidden);
  await decide({ ...question, trace: undefined });
  await decide({ ...question, trace: { ...trace, isSampled: false } });
  await tracing.traceReviews(async () => ({ kind: 'refused', reason: 'no' }))('token', { bypassServerCache: false });
  await t.throwsAsync(
    tracing.traceChecks(async () => {
      throw new Error('a fault');
    })(question),
    { message: 'a fault' },
  );
  t.is(await decide(question), forbidden);
  await tracing.close();
  t.deepEqual(
    otlp.spans.map(({ name, parentId, attributes }) => [name, parentId, attributes['kura.decision']]),
    [
      ['check', trace.spanId, undefined],
      ['check', trace.spanId, 'forbidden'],
    ],
  );
});

test('a collector that is away, or that does not answer, is logged; checks do not wait for it, and authz ends', async (t) => {
  const sockets: Socket[] = [];
  const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.teardown(() => {
    silent.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = silent.address() as { port: number };
  for (const url of ['http://127.0.0.1:1', `http://127.0.0.1:${port}`]) {
    const { warnings, log } = recording();
    const tracing = startTracing({ url, log });
    t.is(await tracing.traceChecks(async () => forbidden)(question), forbidden);
    await waitFor('a warning', () => warnings.length > 0);
    t.is(warnings[0]?.spans, 1);
    await tracing.close();
  }
});
