/** The full drill: kura from k8s/base on a real control plane, and everything that can happen to it there. */
import anyTest, { type TestFn } from 'ava';
import { apiDrills } from './drills/api.ts';
import { drainDrills } from './drills/drain.ts';
import { policyDrills } from './drills/policy.ts';
import { readmeDrills } from './drills/readme.ts';
import { rolloutDrills } from './drills/rollout.ts';
import { shardDrills } from './drills/shards.ts';
import { tokenDrills } from './drills/tokens.ts';
import { type Drill, secondsSince, startDrill } from './support/drill.ts';

const test = anyTest as TestFn;
let drill: Drill;
test.before(async (t) => {
  t.timeout(180_000);
  const startedAt = performance.now();
  drill = await startDrill();
  t.log(`${secondsSince(startedAt)} from no cluster to every Pod ready`);
});
test.after.always(() => drill?.stop());

const opened = (): Drill => drill;
shardDrills(opened);
readmeDrills(opened);
rolloutDrills(opened);
drainDrills(opened);
tokenDrills(opened);
policyDrills(opened);
apiDrills(opened);
