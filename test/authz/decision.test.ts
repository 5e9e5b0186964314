/** Decisions about keys with an origin and about whole prefixes, with a policy and origins that the test changes. */
import test from 'ava';
import { CallerSigner } from '../../services/authz/caller-signer.ts';
import { createDecide, type Decision, type Question } from '../../services/authz/decision.ts';
import { compileOriginTerms, type OriginTerms } from '../../services/authz/policy/origin-terms.ts';
import type { Policy } from '../../services/authz/policy/policy.ts';
import { compileText } from '../../services/authz/policy/policy-text.ts';
import { problemOf } from '../../services/authz/problems.ts';
import type { Excess } from '../../services/authz/rate-limit/rate.ts';
import { readHeaders, type SignedTerms } from '../../services/shared/signed-terms.ts';

const identity = { namespace: 'vision', serviceAccount: 'trainer', pod: { name: 'p', uid: 'u' } };

function policyOf(rules: string, { mode = 'enforce', limits = '{}' } = {}): Policy {
  const compiled = compileText(
    `apiVersion: kura/v1\nkind: AccessPolicy\nmode: ${mode}\ndefault: deny\nlimits: ${limits}\nrules:\n${rules}`,
  );
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.value;
}

function originsOf(...entries: string[]): readonly OriginTerms[] {
  const compiled = compileOriginTerms(`apiVersion: kura/v1\nkind: Origins\norigins:\n${entries.join('')}`);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.value;
}

const rule = (verbs: string, keys: string, effect = 'allow'): string =>
  `- { name: ${effect}-${verbs.replaceAll(/\W/g, '')}-${keys.replaceAll(/\W/g, '')}, effect: ${effect}, subjects: [{ namespaces: ["*"] }], verbs: [${verbs}], keys: [${keys}] }\n`;
const own = rule('GET, HEAD, PUT, DELETE, FILL, LIST', '"{namespace}/"');
const nfs = '- { name: nfs, prefix: vision/data/, file: { path: /data }, share: 0.25, revalidate: 90s }\n';
const shared = '- { name: lake, prefix: _shared/, file: { path: /lake } }\n';

function setting() {
  const world = { policy: policyOf(own), next: undefined as Policy | undefined, origins: originsOf(nfs, shared) };
  const limited: string[] = [];
  const excess: { current: Excess | undefined } = { current: undefined };
  const decide = createDecide({
    isLate: () => false,
    resolve: async () => ({ kind: 'identity', identity, cached: true, goodUntil: Date.now() + 3_600_000 }),
    policy: () => world.policy,
    next: () => world.next,
    origins: () => world.origins,
    version: () => 'v1',
    labelsOf: () => ({}),
    throttle: async (namespace) => {
      limited.push(namespace);
      return excess.current;
    },
    signer: new CallerSigner({ keys: () => undefined, now: Date.now }),
    grantSeconds: 5,
    now: Date.now,
  });
  const ask = (method: string, target: string): Promise<Decision> =>
    decide({ method, target, token: 'a', contentLength: undefined, receivedAt: undefined } satisfies Question);
  return { world, limited, excess, ask };
}

type Allow = Extract<Decision, { kind: 'allow' }>;

function termsOf(decision: Decision): SignedTerms {
  if (decision.kind !== 'allow') throw new Error(JSON.stringify(decision));
  const read = readHeaders(undefined, decision);
  if (read.kind !== 'good') throw new Error(decision.terms);
  return read.terms;
}

const originIn = (decision: Decision): string | undefined => termsOf(decision).fill?.origin;
const codeOf = (decision: Decision): string => (decision.kind === 'allow' ? 'allow' : problemOf(decision).code);
const detailOf = (decision: Decision): string => (decision.kind === 'allow' ? 'allow' : problemOf(decision).detail);

test('a read under /through/ gets the terms of the origin of its key, and every other request plain terms', async (t) => {
  const { ask } = setting();
  for (const method of ['GET', 'HEAD']) {
    const decision = await ask(method, '/through/vision/data/x');
    t.deepEqual(termsOf(decision).fill, { origin: 'nfs', share: 0.25, revalidateSeconds: 90, isPrefetch: false });
    t.is((decision as Allow).origin, 'nfs');
  }
  for (const [method, target] of [
    ['PUT', '/through/vision/data/x'],
    ['DELETE', '/through/vision/data/x'],
    ['GET', '/objects/vision/data/x'],
    ['GET', '/direct/vision/data/x'],
    ['GET', '/through/vision/other'],
    ['GET', '/through/vision/data'],
  ] as const) {
    const decision = await ask(method, target);
    t.is(originIn(decision), undefined, `${method} ${target}`);
    t.is((decision as Allow).origin, undefined);
  }
  t.is(codeOf(await ask('GET', '/through/nlp/x')), 'forbidden');
  t.is(codeOf(await ask('GET', '/through/_shared/x')), 'forbidden', 'an origin gives no right');
  t.is(codeOf(await ask('GET', '/through/')), 'bad-key');
  t.is(codeOf(await ask('POST', '/through/vision/data/x')), 'method-not-allowed');
});

test('without FILL on the key a read under /through/ has plain terms, in a dry run too', async (t) => {
  const { world, ask } = setting();
  const read = rule('GET, HEAD', 'vision/, _shared/');
  for (const mode of ['enforce', 'dryRun']) {
    world.policy = policyOf(read + rule('FILL', '_shared/a/'), { mode });
    t.is(originIn(await ask('GET', '/through/vision/data/x')), undefined, mode);
    t.is(originIn(await ask('GET', '/through/_shared/x')), undefined, mode);
    t.is(originIn(await ask('GET', '/through/_shared/a/x')), 'lake', mode);
    world.policy = policyOf(read + own + rule('FILL', 'vision/data/secret/', 'deny'), { mode });
    t.is(originIn(await ask('GET', '/through/vision/data/secret/x')), undefined, mode);
    t.is(originIn(await ask('GET', '/through/vision/data/x')), 'nfs', mode);
  }
  world.policy = policyOf(rule('FILL', '_shared/'), { mode: 'dryRun' });
  const decision = await ask('GET', '/through/_shared/x');
  t.true((decision as Allow).wouldDeny);
  t.is(originIn(decision), undefined, 'a dry run opens GET, but no origin');
});

test('a changed document of origins takes effect at once, also in the grant', async (t) => {
  const { world, ask } = setting();
  const throughOf = async () => ((await ask('GET', '/objects/vision/x')) as Allow).grant?.through?.map(({ prefix }) => prefix);
  t.deepEqual(await throughOf(), ['vision/data/']);
  world.origins = [];
  t.is(await throughOf(), undefined);
  t.is(originIn(await ask('GET', '/through/vision/data/x')), undefined);
  world.origins = originsOf(nfs.replace('vision/data/', 'vision/set/'));
  t.deepEqual(await throughOf(), ['vision/set/']);
  t.is(originIn(await ask('GET', '/through/vision/set/x')), 'nfs');
});

test('the terms in a grant equal those of a check, but for their end', async (t) => {
  const { ask } = setting();
  const { grant, terms } = (await ask('GET', '/through/vision/data/x')) as Allow;
  t.is(grant?.through?.[0]?.terms, terms);
  t.is(grant?.terms, ((await ask('GET', '/through/vision/x')) as Allow).terms);
  t.not(grant?.terms, terms);
});

test('a difference about FILL is one of the shadow, with the verb', async (t) => {
  const { world, ask } = setting();
  world.next = policyOf(rule('GET, HEAD, PUT, DELETE', '"{namespace}/"'));
  const decision = (await ask('GET', '/through/vision/data/x')) as Allow;
  t.deepEqual(decision.difference, { next: 'deny', nextRule: 'default', nextVerb: 'FILL' });
  t.is(originIn(decision), 'nfs', 'the next policy is not enforced');
  t.is(((await ask('GET', '/objects/vision/data/x')) as Allow).difference, undefined);
  t.is(((await ask('GET', '/through/vision/x')) as Allow).difference, undefined);
  world.next = policyOf(rule('FILL', '"{namespace}/"'));
  t.deepEqual(((await ask('GET', '/through/vision/data/x')) as Allow).difference, { next: 'deny', nextRule: 'default' });
  [world.policy, world.next] = [policyOf(rule('GET', '"{namespace}/"')), policyOf(own)];
  t.like((await ask('GET', '/through/vision/data/x')) as Allow, { difference: { next: 'allow', nextVerb: 'FILL' } });
});

test('a prefetch job needs GET and FILL over the whole prefix, and an origin for it', async (t) => {
  const { world, ask } = setting();
  for (const method of ['POST', 'GET', 'DELETE']) {
    const decision = await ask(method, '/prefetch/vision/data/a/?id=7&x=vision/../');
    t.is(originIn(decision), 'nfs', method);
    t.is((decision as Allow).isLoggedAlways, method === 'POST');
    t.is((decision as Allow).grant, undefined);
  }
  t.is(originIn(await ask('POST', '/prefetch/vision/data/')), 'nfs');
  t.is(codeOf(await ask('POST', '/prefetch/vision/')), 'no-origin', 'its keys are of several origins, or of none');
  t.is(codeOf(await ask('POST', '/prefetch/vision/other/')), 'no-origin');
  t.is(
    detailOf(await ask('POST', '/prefetch/nlp/')),
    'the policy does not allow vision/trainer to GET all keys under nlp/: no rule covers the whole prefix; it allows GET under vision/',
  );
  t.regex(detailOf(await ask('POST', '/prefetch/')), /to GET all keys: no rule covers the whole prefix/);
  world.policy = policyOf(own + rule('FILL', 'vision/data/secret/', 'deny'));
  t.regex(
    detailOf(await ask('POST', '/prefetch/vision/data/')),
    /to FILL all keys under vision\/data\/: it denies FILL under vision\/data\/secret\//,
  );
  t.is(originIn(await ask('POST', '/prefetch/vision/data/a/')), 'nfs');
  for (const mode of ['enforce', 'dryRun']) {
    world.policy = policyOf(rule('GET', 'vision/'), { mode });
    t.regex(detailOf(await ask('POST', '/prefetch/vision/data/')), /FILL all keys under vision\/data\/: .* it allows no FILL$/);
    world.policy = policyOf(rule('FILL', 'vision/'), { mode });
    t.regex(detailOf(await ask('POST', '/prefetch/vision/data/')), /GET all keys under vision\/data\/: .* it allows no GET$/);
  }
});

test('a list needs LIST and a removal needs DELETE over the whole prefix, in a dry run too', async (t) => {
  const { world, ask } = setting();
  const list = await ask('GET', '/datasets/vision/?keys&limit=5');
  const removal = await ask('DELETE', '/datasets/vision/sets/');
  t.deepEqual([originIn(list), originIn(removal)], [undefined, undefined]);
  t.deepEqual([(list as Allow).isLoggedAlways, (removal as Allow).isLoggedAlways], [false, true]);
  for (const mode of ['enforce', 'dryRun']) {
    world.policy = policyOf(rule('GET, HEAD, PUT, DELETE', 'vision/'), { mode });
    t.is(codeOf(await ask('GET', '/datasets/vision/')), 'forbidden', mode);
    t.is(codeOf(await ask('DELETE', '/datasets/vision/')), 'allow', mode);
    world.policy = policyOf(rule('LIST', 'vision/'), { mode });
    t.is(codeOf(await ask('GET', '/datasets/vision/')), 'allow', mode);
    t.is(codeOf(await ask('DELETE', '/datasets/vision/')), 'forbidden', mode);
    world.policy = policyOf(own + rule('DELETE', 'vision/a/b/', 'deny'), { mode });
    t.is(codeOf(await ask('DELETE', '/datasets/vision/a/')), 'forbidden', mode);
    t.is(codeOf(await ask('DELETE', '/datasets/vision/c/')), 'allow', mode);
    t.is(codeOf(await ask('GET', '/datasets/')), 'forbidden', mode);
    world.policy = policyOf(rule('LIST, DELETE', '""'), { mode });
    t.is(codeOf(await ask('GET', '/datasets/')), 'allow', mode);
    t.is(codeOf(await ask('DELETE', '/datasets/')), 'allow', mode);
  }
});

test('a prefix that cuts a segment is 400, and any other method 405', async (t) => {
  const { ask } = setting();
  for (const target of [
    '/datasets/vision',
    '/datasets/vision/a',
    '/prefetch/vision/a?id=1/',
    '/datasets/../',
    '/datasets/a/./',
    `/datasets/${'x'.repeat(1_024)}/`,
  ]) {
    const decision = await ask('GET', target);
    t.is(codeOf(decision), 'bad-prefix', target);
    t.regex(detailOf(decision), /^a prefix ends with \//);
  }
  t.is(codeOf(await ask('GET', `/datasets/vision/${'x'.repeat(1_016)}/`)), 'allow');
  for (const [method, target, allowed] of [
    ['PUT', '/datasets/vision/', 'GET, DELETE'],
    ['POST', '/datasets/vision/', 'GET, DELETE'],
    ['hasOwnProperty', '/datasets/vision/', 'GET, DELETE'],
    ['HEAD', '/prefetch/vision/', 'POST, GET, DELETE'],
    ['PROPFIND', '/prefetch/vision/', 'POST, GET, DELETE'],
  ] as const) {
    const decision = await ask(method, target);
    if (decision.kind !== 'bad-method') t.fail(codeOf(decision));
    else t.deepEqual(problemOf(decision).headers, { allow: allowed });
  }
  for (const target of ['/datasets', '/prefetch', '/dataset/vision/']) t.is(codeOf(await ask('GET', target)), 'no-such-path', target);
});

test('requests about a prefix count for the rates of their namespace', async (t) => {
  const { world, limited, excess, ask } = setting();
  world.policy = policyOf(own, { limits: '{ requestsPerSecond: 5 }' });
  t.is(codeOf(await ask('GET', '/datasets/vision/')), 'allow');
  t.is(originIn(await ask('GET', '/through/vision/data/x')), 'nfs');
  t.deepEqual(limited, ['vision', 'vision']);
  excess.current = { limit: 'requestsPerSecond', perSecond: 5, waitSeconds: 1 };
  t.is(codeOf(await ask('POST', '/prefetch/vision/data/')), 'too-many-requests');
});
