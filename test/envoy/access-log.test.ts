/** What the operators' bootstrap writes of requests, and what it tells authz of them. */
import test from 'ava';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { waitFor } from '../support/wait.ts';
import { allow, forbidden, grant } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

const secret = 'Bearer eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';

test('a failure is a line with who, how long and why, without key and token; a miss and a success are none', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
      const sample = ['filter', 'or_filter', 'filters', 3, 'runtime_filter', 'percent_sampled', 'numerator'];
      t.is(logger.getIn(sample), 1, 'one request in a hundred is written');
      logger.setIn(sample, 0);
    },
  });
  rig.decide = ({ target }) => (target.includes('allowed') ? allow(undefined) : forbidden);
  t.is(await rig.call({ key: 'vision/allowed', authorization: secret }), 404);
  t.is(
    await rig.call({ key: 'vision/of-somebody-else', authorization: secret, method: 'PUT', headers: { 'x-kura-namespace': 'forged' } }),
    403,
  );
  const refused = await waitFor('the line', () => rig.accessLog().find(({ status }) => status === 403));
  t.like(refused, { service: 'envoy', method: 'PUT', namespace: null, grant: null, shard: null, flags: 'UAEX' });
  t.is(Number(refused.path_bytes), '/objects/vision/of-somebody-else'.length);
  t.is(typeof refused.duration_ms, 'number');
  const written = JSON.stringify(rig.accessLog());
  t.false(written.includes('somebody') || written.includes('eyJ') || written.includes('forged'));
  // The refusals of the rig's own start, and this one.
  t.deepEqual(new Set(rig.accessLog().map(({ status }) => status)), new Set([503, 403]));
});

test('a sampled line names the identity, the shard’s address and whether a grant let it in', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const logger = namedEntry(objectsManager(bootstrap), ['access_log'], 'envoy.access_loggers.stdout');
      logger.setIn(['filter', 'or_filter', 'filters', 3, 'runtime_filter', 'percent_sampled', 'numerator'], 100);
    },
  });
  rig.decide = () => allow(grant());
  for (let round = 0; round < 2; round++) t.is(await rig.call({ method: 'PUT', authorization: secret, bodyMs: 1 }), 404);
  const lines = await waitFor('two lines', () => {
    const found = rig.accessLog().filter(({ status }) => status === 404);
    return found.length === 2 && found;
  });
  for (const line of lines) {
    t.like(line, { namespace: 'vision', service_account: 'trainer', tries: 1, bytes_received: 2, flags: '-' });
    t.is(line.upstream, `127.0.0.1:${rig.recorder.port}`);
  }
  t.deepEqual(
    lines.map((line) => line.grant),
    [null, '1'],
  );
});

test('authz is told the bytes of the namespaces that it counts, of bodies in both directions, and of no others', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ token }) => allow(undefined, { countsBytes: token === 'counted' });
  for (const authorization of ['Bearer counted', 'Bearer other', 'Bearer counted']) {
    t.is(await rig.call({ method: 'PUT', authorization, bodyMs: 1 }), 404);
  }
  await waitFor('both transfers are told', () => rig.transferred.get('vision') === 4);
  t.is(rig.transferred.size, 1);
});
