import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ApiException, AuthenticationV1Api, CoreV1Api, type V1TokenReviewStatus } from '@kubernetes/client-node';
import test, { type ExecutionContext } from 'ava';
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose';
import { claimsOf, remint } from '../../support/tokens.ts';
import { pod, type StandIn, startStandIn } from './stand-in.ts';

const namespace = 'vision';

interface Workload extends StandIn {
  readonly core: CoreV1Api;
  readonly key: string;
  readonly token: string;
  readonly review: (token: string, audiences?: string[]) => Promise<V1TokenReviewStatus & Record<string, unknown>>;
}

async function startWorkload(t: ExecutionContext): Promise<Workload> {
  const standIn = await startStandIn(t, { KURA_KUBERNETES_SHORTEST_TOKEN: '5s' });
  const core = standIn.client.api(CoreV1Api);
  await core.createNode({ body: { metadata: { name: 'node-a' } } });
  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'trainer' } } });
  const { metadata } = await core.createNamespacedPod({ namespace, body: pod('p', { node: 'node-a' }) });
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: String(metadata?.uid) };
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace,
    name: 'trainer',
    body: { spec: { audiences: ['kura'], expirationSeconds: 600, boundObjectRef } },
  });
  const api = standIn.client.api(AuthenticationV1Api);
  return {
    ...standIn,
    core,
    key: await readFile(path.join(standIn.directory, 'sa.key'), 'utf8'),
    token: String(status?.token),
    review: async (token, audiences = ['kura']) =>
      (await api.createTokenReview({ body: { spec: { token, audiences } } })).status as V1TokenReviewStatus & Record<string, unknown>,
  };
}

test.serial('a good token is authenticated with identity, audience and Pod', async (t) => {
  const { review, token, core } = await startWorkload(t);
  const status = await review(token);
  const uid = async (read: Promise<{ metadata?: { uid?: string } }>): Promise<string> => String((await read).metadata?.uid);
  t.true(status.authenticated);
  t.deepEqual(status.audiences, ['kura']);
  t.is(status.user?.username, 'system:serviceaccount:vision:trainer');
  t.is(status.user?.uid, await uid(core.readNamespacedServiceAccount({ namespace, name: 'trainer' })));
  t.deepEqual(status.user?.groups, ['system:serviceaccounts', 'system:serviceaccounts:vision', 'system:authenticated']);
  t.deepEqual(status.user?.extra, {
    'authentication.kubernetes.io/credential-id': [`JTI=${claimsOf(token).jti}`],
    'authentication.kubernetes.io/node-name': ['node-a'],
    'authentication.kubernetes.io/node-uid': [await uid(core.readNode({ name: 'node-a' }))],
    'authentication.kubernetes.io/pod-name': ['p'],
    'authentication.kubernetes.io/pod-uid': [await uid(core.readNamespacedPod({ namespace, name: 'p' }))],
  });
});

test.serial('of several audiences those that the token holds are answered', async (t) => {
  const { review, token } = await startWorkload(t);
  t.deepEqual((await review(token, ['other', 'kura'])).audiences, ['kura']);
});

test.serial('a refusal has no `authenticated` and says why in the real API’s words', async (t) => {
  const { review, token, key } = await startWorkload(t);
  const now = Math.floor(Date.now() / 1000);
  const cases: [string, string, string[]?][] = [
    [token, '[invalid bearer token, token audiences ["kura"] is invalid for the target audiences ["other"]]', ['other']],
    ['garbage', 'invalid bearer token'],
    [remint(token, key, { claims: { iss: 'https://elsewhere' } }), 'invalid bearer token'],
    [`${token.slice(0, -6)}AAAAAA`, '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]'],
    [remint(token, key, { header: { alg: 'none' } }), '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]'],
    [remint(token, key, { header: { kid: 'unknown' } }), '[invalid bearer token, invalid signature, no keys found]'],
    [remint(token, key, { claims: { exp: now - 90 } }), '[invalid bearer token, service account token has expired]'],
    [remint(token, key, { claims: { nbf: now + 90 } }), '[invalid bearer token, service account token is not valid yet]'],
  ];
  for (const [presented, error, audiences] of cases) {
    const status = await review(presented, audiences);
    t.is(status.error, error);
    t.is(status.authenticated, undefined);
    t.deepEqual({ ...status.user }, {});
  }
  t.true((await review(remint(token, key, { claims: { exp: now - 30 } }))).authenticated, 'within the leeway of 60 s');
});

test.serial('a token ends with its Pod, with another Pod of that name too', async (t) => {
  const { review, token, core } = await startWorkload(t);
  await core.deleteNamespacedPod({ namespace, name: 'p', gracePeriodSeconds: 0 });
  t.is((await review(token)).error, '[invalid bearer token, service account token has been invalidated]');
  await core.createNamespacedPod({ namespace, body: pod('p', { node: 'node-a' }) });
  t.is((await review(token)).error, '[invalid bearer token, service account token has been invalidated]');
});

test.serial('a token ends with its ServiceAccount, made anew too', async (t) => {
  const { review, token, core } = await startWorkload(t);
  const { metadata } = await core.readNamespacedServiceAccount({ namespace, name: 'trainer' });
  await core.deleteNamespacedServiceAccount({ namespace, name: 'trainer' });
  t.is((await review(token)).error, '[invalid bearer token, serviceaccounts "trainer" not found]');
  const anew = await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'trainer' } } });
  t.is(
    (await review(token)).error,
    `[invalid bearer token, service account UID (${anew.metadata?.uid}) does not match claim (${metadata?.uid})]`,
  );
});

test.serial('an unbound token is authenticated without a Pod', async (t) => {
  const { review, core } = await startWorkload(t);
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace,
    name: 'trainer',
    body: { spec: { audiences: ['kura'] } },
  });
  const { user } = await review(String(status?.token));
  t.deepEqual(Object.keys(user?.extra ?? {}), ['authentication.kubernetes.io/credential-id']);
});

test.serial('an empty token is a bad request', async (t) => {
  const { review } = await startWorkload(t);
  const error = await t.throwsAsync(review(''), { instanceOf: ApiException });
  t.is((error as unknown as ApiException<string>).code, 400);
});

test.serial(
  'a TokenRequest is refused for a Pod that is not there, is another or has another ServiceAccount, and for too short a life',
  async (t) => {
    const { core } = await startWorkload(t);
    await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'eval' } } });
    const ask = (name: string, spec: { expirationSeconds?: number; ref?: { name: string; uid?: string } }) =>
      core.createNamespacedServiceAccountToken({
        namespace,
        name,
        body: {
          spec: {
            audiences: ['kura'],
            expirationSeconds: spec.expirationSeconds ?? 600,
            ...(spec.ref ? { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', ...spec.ref } } : {}),
          },
        },
      });
    for (const [call, code] of [
      [ask('trainer', { ref: { name: 'absent' } }), 404],
      [ask('trainer', { ref: { name: 'p', uid: 'other' } }), 409],
      [ask('eval', { ref: { name: 'p' } }), 400],
      [ask('trainer', { expirationSeconds: 4 }), 422],
      [ask('nobody', {}), 404],
    ] as const) {
      const error = await t.throwsAsync(call, { instanceOf: ApiException });
      t.is((error as unknown as ApiException<string>).code, code);
    }
  },
);

test.serial('the published keys verify the tokens', async (t) => {
  const { client, token } = await startWorkload(t);
  const { body } = await client.open('/openid/v1/jwks', { signal: AbortSignal.timeout(5_000) });
  const keys = JSON.stringify(await body.json());
  const set = createRemoteJWKSet(new URL('https://kubernetes/openid/v1/jwks'), {
    [customFetch]: async () => new Response(keys),
  });
  const { payload } = await jwtVerify(token, set, { audience: 'kura' });
  t.is(payload.sub, 'system:serviceaccount:vision:trainer');
});
