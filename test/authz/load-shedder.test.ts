import test from 'ava';
import { LoadShedder } from '../../services/authz/load-shedder.ts';

/** A shedder that has seen so many checks in its first second, which waited so long. */
function after(checks: number, waitedMs: number) {
  const world = { now: 1_000_000 };
  const shedder = new LoadShedder({ now: () => world.now });
  for (let count = 0; count < checks; count += 1) shedder.isLate(world.now - waitedMs);
  world.now += 1_000;
  return { world, shedder, isLate: (waited: number) => shedder.isLate(world.now - waited) };
}

test('a check that waited more than 0.3 s is late after a second in which no check was in time', (t) => {
  const { isLate } = after(20, 400);
  t.true(isLate(301));
  t.false(isLate(300));
});

test('a check is not late if one of the second before was in time, or if the second had few checks', (t) => {
  const { world, shedder, isLate } = after(20, 400);
  t.true(isLate(400));
  for (let count = 0; count < 40; count += 1) isLate(400);
  isLate(10);
  world.now += 1_000;
  t.false(isLate(5_000), 'one was in time');
  t.false(after(19, 5_000).isLate(5_000), 'few checks');
  t.false(after(0, 0).isLate(5_000), 'no checks');
  t.false(shedder.isLate(undefined), 'Envoy sends no time');
});

test('a pause and a clock that is put back end the state', (t) => {
  for (const change of [1_001, -3_600_000]) {
    const { world, isLate } = after(20, 400);
    world.now += change;
    t.false(isLate(5_000), `${change}`);
  }
});
