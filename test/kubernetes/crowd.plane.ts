/** Many parts that fail together: kura from k8s/base with four Envoys on a real control plane, watched by a real Prometheus. */
import anyTest, { type TestFn } from 'ava';
import { findPeer } from '../support/peers.ts';
import { alertDrills } from './drills/alerts.ts';
import { brokenEnvoyDrills } from './drills/broken-envoy.ts';
import { lostReadinessDrills } from './drills/lost-readiness.ts';
import { restartDrills } from './drills/restart-without-help.ts';
import { statusesOf } from './support/client.ts';
import { type Drill, startDrill } from './support/drill.ts';
import { type Prometheus, startPrometheus } from './support/prometheus.ts';

const test = anyTest as TestFn;
let drill: Drill;
let prometheus: Prometheus | undefined;
test.before(async (t) => {
  t.timeout(180_000);
  drill = await startDrill({ envoys: 4 });
  t.deepEqual(await statusesOf(drill.client, 'PUT', drill.keys, drill.token), [201]);
  const program = findPeer('prometheus', { debianPackage: 'prometheus' });
  if (program !== undefined) prometheus = await startPrometheus(program, drill.kubelet.pods);
});
test.after.always(async () => {
  await prometheus?.stop();
  await drill?.stop();
});

const opened = (): Drill => drill;
const watched = (): Prometheus | undefined => prometheus;
lostReadinessDrills(opened, watched);
restartDrills(opened, watched);
brokenEnvoyDrills(opened);
// The last one: the shards do not return.
alertDrills(opened, watched);
