/**
 * How long an identity is served after its review, depending on the clock, the watch on Pods and the responses of the API. The test
 * controls all of them.
 */
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import type { Resolution } from '../../../services/authz/identity/identity.ts';
import type { LocalCheck } from '../../../services/authz/identity/jwt.ts';
import { IdentityResolver } from '../../../services/authz/identity/resolver.ts';
import type { ReviewAnswer } from '../../../services/authz/identity/token-review.ts';
import { waitFor } from '../../support/wait.ts';

const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'p', uid: 'u' } };
const yes: ReviewAnswer = { kind: 'identity', identity };
const no: ReviewAnswer = { kind: 'refused', reason: 'gone' };
const silence: ReviewAnswer = { kind: 'unavailable', reason: 'silence' };
const minute = 60_000;

interface Options {
  readonly random?: number;
  readonly outageGraceMs?: number;
  readonly tokenEndsAt?: number;
}

/** A resolver whose clock stands still until the test moves it; results live 120 s with a watch, 10 s without. */
function setting({ random = 0.5, outageGraceMs = 300_000, tokenEndsAt = 60 * minute }: Options = {}) {
  const world = {
    now: 1_000,
    healthy: true,
    running: true,
    answer: yes as ReviewAnswer | undefined,
    local: { kind: 'plausible', expiresAt: tokenEndsAt } as LocalCheck,
    reviews: 0,
    bypassed: 0,
    served: [] as { ageMs: number; servedDuringOutage: boolean }[],
  };
  /** Reviews without a response so far. */
  const open: ((answer: ReviewAnswer) => void)[] = [];
  const resolver = new IdentityResolver({
    checkLocally: async () => world.local,
    review: (_token, { bypassServerCache }) => {
      world.reviews++;
      if (bypassServerCache) world.bypassed++;
      const { answer } = world;
      return answer === undefined ? new Promise((resolve) => open.push(resolve)) : Promise.resolve(answer);
    },
    pods: {
      get healthy() {
        return world.healthy;
      },
      isRunning: () => world.running,
    },
    resultAgeMs: 10_000,
    watchedResultAgeMs: 120_000,
    outageGraceMs,
    maxCachedTokens: 10,
    now: () => world.now,
    random: () => random,
    events: { served: (result) => world.served.push(result), refusedHere: () => undefined },
  });
  /** Resolves when a background refresh also has its response, unless the test delays it. */
  const ask = async (token = 'a token', { isLate = false } = {}): Promise<Resolution> => {
    const resolution = await resolver.resolve(token, { isLate });
    await setImmediate();
    return resolution;
  };
  return { world, ask, open, resolver };
}

test('a watched result lives 120 s ± 20 %, drawn for each token', async (t) => {
  for (const [random, ageMs] of [
    [0, 96_000],
    [0.5, 120_000],
    [1, 144_000],
  ] as const) {
    const { world, ask } = setting({ random });
    await ask();
    world.now += ageMs - 1;
    await ask();
    t.is(world.reviews, 1, `${random}`);
    world.now += 2;
    await ask();
    t.is(world.reviews, 2, `${random}`);
  }
});

test('without a healthy watch a result lives 10 s, and the request after it waits for the refresh', async (t) => {
  const { world, ask, open } = setting();
  await ask();
  world.healthy = false;
  world.now += 9_999;
  t.is((await ask()).kind, 'identity');
  t.is(world.reviews, 1);
  world.now += 1;
  world.answer = undefined;
  const waiting = Promise.all([ask(), ask()]);
  await waitFor('a refresh runs', () => open.length === 1);
  open[0]?.(no);
  t.deepEqual(
    (await waiting).map(({ kind }) => kind),
    ['refused', 'refused'],
  );
});

test('an expired result is served for 1 s while one refresh runs, and not longer', async (t) => {
  const { world, ask, open } = setting();
  await ask();
  world.answer = undefined;
  world.now += 120_999;
  const [first, second] = await Promise.all([ask(), ask()]);
  t.deepEqual([first.kind, second.kind], ['identity', 'identity']);
  t.true(first.kind === 'identity' && first.goodUntil < world.now, 'nothing may be derived from it');
  t.is(world.reviews, 2);
  world.now += 1;
  const waiting = ask();
  await waitFor('the refresh runs', () => open.length === 1);
  open[0]?.(no);
  t.is((await waiting).kind, 'refused');
  t.is(world.reviews, 2);
});

test('a refusal by a refresh ends a stale result immediately', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.answer = no;
  world.now += 120_000;
  t.is((await ask()).kind, 'identity');
  await waitFor('refused', async () => (await ask()).kind === 'refused');
  t.is(world.reviews, 2);
});

test('only a refresh without a response starts the outage grace: 300 s from the first one, whatever the age of the review', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.answer = silence;
  world.now += 200_000;
  const startedAt = world.now;
  const found = await ask();
  t.true(found.kind === 'identity' && found.goodUntil === startedAt + 300_000, 'grants go on too');
  for (; world.now < startedAt + 299_000; world.now += 7_000) t.is((await ask()).kind, 'identity', `${world.now}`);
  world.now = startedAt + 299_999;
  t.is((await ask()).kind, 'identity');
  world.now = startedAt + 300_000;
  t.is((await ask()).kind, 'unavailable');
  world.now += 10 * minute;
  t.is((await ask()).kind, 'unavailable', 'the grace does not start again');
  world.answer = yes;
  t.is((await ask()).kind, 'identity');
});

test('a response ends the outage grace, and the next refresh without one starts a new one', async (t) => {
  const { world, ask } = setting();
  await ask();
  for (const _outage of [1, 2]) {
    world.answer = silence;
    world.now += 200_000;
    const startedAt = world.now;
    t.is((await ask()).kind, 'identity');
    world.now = startedAt + 299_000;
    t.is((await ask()).kind, 'identity');
    world.answer = yes;
    world.now += 5_000;
    t.is((await ask()).kind, 'identity');
  }
  t.true(world.served.some(({ servedDuringOutage }) => servedDuringOutage));
  world.answer = no;
  world.now += 200_000;
  t.is((await ask()).kind, 'refused');
});

test('during the outage grace the API is asked once a second, and an idle token waits for the response', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.answer = silence;
  world.now += 200_000;
  await ask();
  t.is(world.reviews, 2);
  world.now += 999;
  await Promise.all([ask(), ask()]);
  t.is(world.reviews, 2);
  world.now += 1;
  await Promise.all([ask(), ask()]);
  t.is(world.reviews, 3);
  t.true(world.served.slice(-2).every(({ servedDuringOutage }) => servedDuringOutage));
  world.now += 100_000;
  world.answer = no;
  t.is((await ask()).kind, 'refused');
});

test('the outage grace needs a known identity, ends with the token, and can be switched off', async (t) => {
  const ending = setting({ tokenEndsAt: 250_000 });
  await ending.ask();
  ending.world.answer = silence;
  ending.world.now = 200_000;
  const found = await ending.ask();
  t.true(found.kind === 'identity' && found.goodUntil === 250_000);
  ending.world.now = 250_000;
  t.is((await ending.ask()).kind, 'unavailable');

  const unknown = setting();
  unknown.world.answer = silence;
  t.is((await unknown.ask()).kind, 'unavailable');

  const off = setting({ outageGraceMs: 0 });
  await off.ask();
  off.world.answer = silence;
  off.world.now += 200_000;
  t.is((await off.ask()).kind, 'unavailable');
});

test('unreadable signing keys count as no response, and a local refusal ends the outage grace', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.now += 200_000;
  world.local = { kind: 'unavailable', reason: 'no keys' };
  t.is((await ask()).kind, 'identity');
  world.now += 5_000;
  world.local = { kind: 'refused', reason: 'expired' };
  t.is((await ask()).kind, 'refused');
  t.is(world.reviews, 1);
});

test('the end of a Pod ends its results immediately: the review bypasses the API’s cache, and without a response there is no outage grace', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.running = false;
  world.answer = silence;
  t.is((await ask()).kind, 'unavailable');
  t.deepEqual([world.reviews, world.bypassed], [2, 1]);
  world.answer = no;
  t.is((await ask()).kind, 'refused');
});

test('when the watch does not list the Pod, a second review bypasses the API’s cache, and its result lives 10 s', async (t) => {
  const { world, ask } = setting();
  world.running = false;
  t.is((await ask()).kind, 'identity');
  t.deepEqual([world.reviews, world.bypassed], [2, 1]);
  world.now += 10_000;
  await ask();
  t.is(world.reviews, 4);
});

test('without a watch every review bypasses the API’s cache, which may hold a result from before the Pod’s end', async (t) => {
  const { world, ask } = setting();
  world.healthy = false;
  t.is((await ask()).kind, 'identity');
  world.now += 10_000;
  await ask();
  t.deepEqual([world.reviews, world.bypassed], [2, 2]);
});

test('with a clock 30 s behind the cluster’s, a token is served, and nothing derived from it outlives it', async (t) => {
  const { world, ask } = setting({ tokenEndsAt: 20_000 });
  await ask();
  world.now = 20_000 + 29_999;
  const found = await ask();
  t.true(found.kind === 'identity' && found.goodUntil === 20_000);
  t.is(world.reviews, 1);
  world.now += 1;
  world.local = { kind: 'refused', reason: 'the token has expired' };
  t.is((await ask()).kind, 'refused');
});

test('a result that does not fit into a full cache is requested again', async (t) => {
  const { world, ask, resolver } = setting();
  for (let index = 0; index < 20; index++) await ask(`token ${index}`);
  t.is(resolver.remembered, 10);
  t.is((await ask('token 19')).kind, 'identity');
  t.is(world.reviews, 21);
});

test('a clock that is put back does not lengthen a result, and remembered refusals end', async (t) => {
  const { world, ask } = setting({ tokenEndsAt: 600 * minute });
  world.now = 300 * minute;
  await ask();
  world.answer = no;
  await ask('refused');
  world.now -= 120 * minute;
  t.is((await ask()).kind, 'refused');
  world.answer = yes;
  t.is((await ask('refused')).kind, 'identity');
  const { reviews } = world;
  world.now += 119_000;
  t.is((await ask('refused')).kind, 'identity');
  t.is(world.reviews, reviews, 'a result after the change lives as usual');
});

test('a small correction of the clock causes no review', async (t) => {
  const { world, ask } = setting();
  world.now = 100_000;
  await ask();
  world.now -= 900;
  await ask();
  t.is(world.reviews, 1);
  world.now -= 900;
  await ask();
  t.is(world.reviews, 2);
});

test('a clock that is put back in an outage starts the grace again, and does not lengthen it further', async (t) => {
  const { world, ask } = setting({ tokenEndsAt: 600 * minute });
  world.now = 300 * minute;
  await ask();
  world.now += 3 * minute;
  world.answer = silence;
  t.is((await ask()).kind, 'identity');
  world.now -= 120 * minute;
  t.is((await ask()).kind, 'identity');
  world.now += 5 * minute - 1;
  t.is((await ask()).kind, 'identity');
  world.now += 2;
  t.is((await ask()).kind, 'unavailable');
});

test('a late request is answered from memory, and an unknown token gets no check and no review', async (t) => {
  const { world, ask } = setting();
  await ask();
  t.like(await ask('a token', { isLate: true }), { kind: 'identity', cached: true });
  world.local = { kind: 'refused', reason: 'it would be checked' };
  t.like(await ask('another', { isLate: true }), { kind: 'unavailable', isOverload: true });
  t.is(world.reviews, 1);
  t.like(await ask('another'), { kind: 'refused' });
});

test('a late request with a known token is served in the outage grace', async (t) => {
  const { world, ask } = setting();
  await ask();
  world.answer = silence;
  world.now += 125_000;
  t.is((await ask()).kind, 'identity');
  world.now += 10_000;
  t.is((await ask('a token', { isLate: true })).kind, 'identity');
  t.is(world.reviews, 2);
});
