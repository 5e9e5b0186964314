/** authz finds late checks by the time at which the real Envoy received a request. */
import test from 'ava';
import { allow, grant } from './support/decisions.ts';
import { startRig } from './support/rig.ts';

test('a check has the time at which Envoy received the request', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  const before = Date.now();
  await rig.call({ authorization: 'Bearer a.b.c' });
  const [{ receivedAt = 0 } = {}] = rig.asked;
  t.true(receivedAt > before - 1_000 && receivedAt < Date.now() + 1_000, `${receivedAt} ${before}`);
});
