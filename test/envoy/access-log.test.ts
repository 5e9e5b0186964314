/** What the operators' bootstrap writes of requests, and what it tells authz of them. */
import test from 'ava';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { waitFor } from '../support/wait.ts';
import { allow, forbidden, grant, headersOf } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

const secret = 'Bearer eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';

test('a refusal of somebody known is a line with how long and why, without key and token; misses and 401 are none but for a sample', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
      const sample = ['filter', 'or_filter', 'filters', 0, 'runtime_filter', 'percent_sampled', 'numerator'];
      t.is(logger.getIn(sample), 1, 'one request in a hundred is written');
      logger.setIn(sample, 0);
    },
  });
  rig.decide = () => allow(undefined);
  t.is(await rig.call({ key: 'vision/allowed', authorization: secret }), 404);
  rig.decide = () => ({ kind: 'unauthenticated', reason: 'no' });
  t.is(await rig.call({ authorization: secret }), 401);
  rig.decide = () => forbidden;
  t.is(
    await rig.call({
      key: 'vision/of-somebody-else',
      authorization: secret,
      method: 'PUT',
      headers: { 'x-kura-caller': 'forged/forged/-', 'x-kura-terms': 'forged' },
    }),
    403,
  );
  const refused = await waitFor('the line', () => rig.accessLog().find(({ status }) => status === 403));
  t.like(refused, { service: 'envoy', method: 'PUT', caller: null, grant: null, shard: null, flags: 'UAEX' });
  t.is(Number(refused.path_bytes), '/objects/vision/of-somebody-else'.length);
  t.is(typeof refused.duration_ms, 'number');
  const written = JSON.stringify(rig.accessLog());
  t.false(written.includes('somebody') || written.includes('eyJ') || written.includes('forged'));
  // The rig's own start has 503s.
  t.deepEqual(new Set(rig.accessLog().map(({ status }) => status)), new Set([503, 403]));
});

test('a sampled line names the identity, the shard’s address and whether a grant let it in', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
      logger.setIn(['filter', 'or_filter', 'filters', 0, 'runtime_filter', 'percent_sampled', 'numerator'], 100);
    },
  });
  rig.decide = () => allow(grant());
  for (let round = 0; round < 2; round++) t.is(await rig.call({ method: 'PUT', authorization: secret, bodyMs: 1 }), 404);
  const lines = await waitFor('two lines', () => {
    const found = rig.accessLog().filter(({ status }) => status === 404);
    return found.length === 2 && found;
  });
  for (const line of lines) {
    t.like(line, { caller: 'vision/trainer/-', tries: 1, bytes_received: 2, flags: '-' });
    t.is(line.upstream, `127.0.0.1:${rig.recorder.port}`);
  }
  t.false(JSON.stringify(rig.accessLog()).includes('sig='), 'terms are never logged');
  t.deepEqual(
    lines.map((line) => line.grant),
    [null, '1'],
  );
});

test('authz is told the bytes of the namespaces that it counts, of bodies in both directions, and of no others', async (t) => {
  const rig = await startRig(t);
  rig.recorder.answer = Buffer.from('three');
  rig.decide = ({ token }) =>
    allow(undefined, { ...headersOf({ namespace: String(token), mayRedirect: token !== 'counted' }), countsBytes: token === 'counted' });
  for (const authorization of ['Bearer counted', 'Bearer other', 'Bearer counted']) {
    t.is(await rig.call({ method: 'PUT', authorization, bodyMs: 1 }), 404);
    t.is(await rig.call({ authorization }), 404);
  }
  await waitFor('all transfers are told', () => rig.transferred.get('counted') === 2 * (2 + 5 + 5));
  t.deepEqual([...rig.transferred.keys()], ['counted']);
  // What goes straight to a shard is not told: so a shard may send nothing of theirs there.
  t.deepEqual(
    rig.recorder.requests.map(({ headers }) => String(headers['x-kura-terms']).includes('; direct=no; ')),
    [true, true, false, false, true, true],
  );
});
