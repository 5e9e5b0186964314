import { randomUUID } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { claimsOf, remint } from '../../support/tokens.ts';
import { waitFor } from '../../support/wait.ts';
import { type Cluster, pod, type Reply } from './cluster.ts';
import { madeNode } from './objects.ts';

const reviews = '/apis/authentication.k8s.io/v1/tokenreviews';
const invalidated = '[invalid bearer token, service account token has been invalidated]';

interface Workload {
  readonly ns: string;
  readonly node: string;
  readonly account: { readonly metadata: { readonly uid: string } };
  readonly pod: { readonly metadata: { readonly uid: string } };
  /** Bound to the Pod `p`, for the audience `kura`. */
  readonly token: string;
  readonly request: (account: string, spec: object, metadata?: object) => Promise<Reply>;
  /** The status of a review. */
  // biome-ignore lint/suspicious/noExplicitAny: any status.
  readonly review: (token: string, audiences?: readonly string[]) => Promise<any>;
  /** The same past the real API's cache of successful reviews: a new audience makes a new request. */
  // biome-ignore lint/suspicious/noExplicitAny: any status.
  readonly freshReview: (token: string) => Promise<any>;
}

/** The identity that a token proves, and the end of its validity. */
export function tokenContract(cluster: () => Cluster): void {
  const workload = async (t: ExecutionContext): Promise<Workload> => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const node = await madeNode(t, cluster(), ns);
    const account = await ok('POST', `/api/v1/namespaces/${ns}/serviceaccounts`, { body: { metadata: { name: 'trainer' } } });
    const made = await ok('POST', `/api/v1/namespaces/${ns}/pods`, { body: pod('p', { node, serviceAccountName: 'trainer' }) });
    const request: Workload['request'] = (name, spec, metadata = {}) =>
      call('POST', `/api/v1/namespaces/${ns}/serviceaccounts/${name}/token`, { body: { metadata, spec } });
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: made.metadata.uid };
    const { body } = await request('trainer', { audiences: ['kura'], expirationSeconds: 600, boundObjectRef });
    const review: Workload['review'] = async (token, audiences = ['kura']) =>
      (await ok('POST', reviews, { body: { spec: { token, audiences } } })).status;
    const freshReview = (token: string) => review(token, ['kura', `nonce-${randomUUID()}`]);
    return { ns, node, account, pod: made, token: body.status.token, request, review, freshReview };
  };

  test.serial('a good token is authenticated with identity, audience, Node and Pod', async (t) => {
    const { ns, node, account, pod: own, token, review } = await workload(t);
    const { uid: nodeUid } = (await cluster().ok('GET', `/api/v1/nodes/${node}`)).metadata;
    t.deepEqual(await review(token), {
      authenticated: true,
      audiences: ['kura'],
      user: {
        username: `system:serviceaccount:${ns}:trainer`,
        uid: account.metadata.uid,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${ns}`, 'system:authenticated'],
        extra: {
          'authentication.kubernetes.io/credential-id': [`JTI=${claimsOf(token).jti}`],
          'authentication.kubernetes.io/node-name': [node],
          'authentication.kubernetes.io/node-uid': [nodeUid],
          'authentication.kubernetes.io/pod-name': ['p'],
          'authentication.kubernetes.io/pod-uid': [own.metadata.uid],
        },
      },
    });
    t.deepEqual((await review(token, ['other', 'kura'])).audiences, ['kura']);
  });

  test.serial('the review repeats the spec of the request, and ignores a status in it', async (t) => {
    const { token } = await workload(t);
    const spec = { token, audiences: ['other'] };
    const body = { metadata: { name: 'n' }, spec, status: { authenticated: true, user: { username: 'root' } } };
    const answer = await cluster().call('POST', reviews, { body });
    t.is(answer.status, 201);
    t.like(answer.body, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: { name: 'n' }, spec });
    t.deepEqual(Object.keys(answer.body.status).sort(), ['error', 'user']);
  });

  test.serial('a token has the claims that the request asked for, signed with a published key', async (t) => {
    const { ns, node, account, pod: own, token } = await workload(t);
    const jwks = await cluster().ok('GET', '/openid/v1/jwks');
    const issuer = 'https://kubernetes.default.svc';
    const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(jwks), { audience: 'kura', issuer });
    t.deepEqual(Object.keys(protectedHeader).sort(), ['alg', 'kid']);
    t.is(protectedHeader.alg, 'RS256');
    t.is(Number(payload.exp) - Number(payload.iat), 600);
    t.is(payload.nbf, payload.iat);
    t.is(payload.sub, `system:serviceaccount:${ns}:trainer`);
    const nodeClaim = payload['kubernetes.io'] as { node: { uid: string } };
    t.deepEqual(payload['kubernetes.io'], {
      namespace: ns,
      node: { name: node, uid: nodeClaim.node.uid },
      pod: { name: 'p', uid: own.metadata.uid },
      serviceaccount: { name: 'trainer', uid: account.metadata.uid },
    });
    const configuration = await cluster().ok('GET', '/.well-known/openid-configuration');
    t.is(configuration.issuer, issuer);
    t.regex(configuration.jwks_uri, /\/openid\/v1\/jwks$/);
  });

  test.serial('a rejected token has no `authenticated` and a reason', async (t) => {
    const { token, review } = await workload(t);
    const { signingKey } = cluster();
    const now = Math.floor(Date.now() / 1000);
    const again = (parts: Parameters<typeof remint>[2]): string => remint(token, signingKey, parts);
    const [head, claims, signature] = token.split('.') as [string, string, string];
    const damaged = `${head}.${claims}.${signature.slice(0, -8)}${signature.endsWith('AAAAAAAA') ? 'BBBBBBBB' : 'AAAAAAAA'}`;
    const audience = (asked: string): string => `token audiences ["kura"] is invalid for the target audiences ${asked}`;
    const other = again({ claims: { aud: ['other'] } }).split('.')[1];
    // The end of the reason; undefined where it is the implementation's own.
    const rows: [string, string, string | undefined, string[]?][] = [
      ['wrong audience', token, audience('["other"]'), ['other']],
      ['wrong audiences', token, audience('["other" "x y"]'), ['other', 'x y']],
      ['the API’s own audience', token, audience('["https://kubernetes.default.svc"]'), []],
      ['garbage', 'garbage', undefined],
      ['garbage with a space', 'a b', undefined],
      ['garbage in three parts', 'a.b.c', undefined],
      ['another issuer', again({ claims: { iss: 'https://elsewhere' } }), undefined],
      ['a damaged signature', damaged, undefined],
      ['other claims under the signature', `${head}.${other}.${signature}`, undefined, ['other']],
      ['alg none', again({ header: { alg: 'none' } }), undefined],
      ['an unknown kid', again({ header: { kid: 'unknown' } }), undefined],
      ['expired', again({ claims: { exp: now - 90 } }), 'service account token has expired'],
      ['not yet valid', again({ claims: { nbf: now + 90 } }), 'service account token is not valid yet'],
      ['expired and of another audience', again({ claims: { exp: now - 90 } }), audience('["other"]'), ['other']],
    ];
    for (const [what, presented, reason, audiences] of rows) {
      const status = await review(presented, audiences);
      t.deepEqual(Object.keys(status).sort(), ['error', 'user'], what);
      t.deepEqual(status.user, {}, what);
      if (reason === undefined) t.regex(status.error, /^\[?invalid bearer token/, what);
      else t.is(status.error, `[invalid bearer token, ${reason}]`, what);
    }
    t.true((await review(again({ claims: { exp: now - 30 } }))).authenticated, 'within the leeway of 60 s');
    t.true((await review(again({ claims: { nbf: now + 30 } }))).authenticated, 'within the leeway of 60 s');
  });

  test.serial('a token is invalid after its Pod is gone, and for another Pod of that name', async (t) => {
    const { ns, node, pod: own, token, freshReview } = await workload(t);
    const { ok } = cluster();
    const pods = `/api/v1/namespaces/${ns}/pods`;
    t.true((await freshReview(token)).authenticated);
    await ok('DELETE', `${pods}/p?gracePeriodSeconds=0`);
    await waitFor('the token is rejected', async () => (await freshReview(token)).error === invalidated);
    const other = (await ok('POST', pods, { body: pod('p', { node, serviceAccountName: 'trainer' }) })).metadata.uid;
    const error = `[invalid bearer token, pod UID (${other}) does not match service account pod ref claim (${own.metadata.uid})]`;
    await waitFor('the API has the new one', async () => (await freshReview(token)).error === error);
  });

  test.serial('a token is valid while its Pod terminates, and after it succeeded', async (t) => {
    const { ns, token, freshReview } = await workload(t);
    const { ok } = cluster();
    const path = `/api/v1/namespaces/${ns}/pods/p`;
    await ok('PATCH', `${path}/status`, {
      body: { status: { phase: 'Running' } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
    await ok('DELETE', `${path}?gracePeriodSeconds=30`);
    t.true((await freshReview(token)).authenticated);
    await ok('PATCH', `${path}/status`, {
      body: { status: { phase: 'Succeeded' } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
    t.true((await freshReview(token)).authenticated);
  });

  test.serial('a token is invalid after its ServiceAccount is gone, and for another one of that name', async (t) => {
    const { ns, account, token, freshReview } = await workload(t);
    const { ok } = cluster();
    const accounts = `/api/v1/namespaces/${ns}/serviceaccounts`;
    await ok('DELETE', `${accounts}/trainer`);
    const gone = '[invalid bearer token, serviceaccounts "trainer" not found]';
    await waitFor('the token is rejected', async () => (await freshReview(token)).error === gone);
    const other = (await ok('POST', accounts, { body: { metadata: { name: 'trainer' } } })).metadata.uid;
    const error = `[invalid bearer token, service account UID (${other}) does not match claim (${account.metadata.uid})]`;
    await waitFor('the API has the new one', async () => (await freshReview(token)).error === error);
    t.is((await freshReview(token)).error, error);
  });

  test.serial('an unbound token has no Pod', async (t) => {
    const { request, review } = await workload(t);
    const { body } = await request('trainer', { audiences: ['kura'] });
    t.is(body.spec.expirationSeconds, 3_600);
    t.is(body.spec.boundObjectRef, null);
    t.deepEqual(Object.keys((await review(body.status.token)).user.extra), ['authentication.kubernetes.io/credential-id']);
  });

  test.serial('a token without audiences is one for the API, and only such a token may call it', async (t) => {
    const { ns, token, request, review } = await workload(t);
    const { body } = await request('trainer', {});
    const own = body.status.token;
    t.deepEqual(body.spec.audiences, ['https://kubernetes.default.svc']);
    t.deepEqual((await review(own, [])).audiences, ['https://kubernetes.default.svc']);
    t.is((await review(own, ['kura'])).authenticated, undefined);
    const { call } = cluster();
    t.is((await call('GET', `/api/v1/namespaces/${ns}/pods`, { token })).status, 401);
    // 403 where the API authenticates the token and RBAC denies the request.
    t.true([200, 403].includes((await call('GET', `/api/v1/namespaces/${ns}/pods`, { token: own })).status));
  });

  test.serial('a TokenRequest returns the ServiceAccount’s name and the granted spec', async (t) => {
    const { ns, account, request } = await workload(t);
    const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'p' };
    const { status, body } = await request('trainer', { audiences: ['kura'], expirationSeconds: 700, boundObjectRef });
    t.is(status, 201);
    t.like(body, { kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1' });
    t.like(body.metadata, { name: 'trainer', namespace: ns, uid: account.metadata.uid });
    t.deepEqual(body.spec, { audiences: ['kura'], expirationSeconds: 700, boundObjectRef });
    t.is(Date.parse(body.status.expirationTimestamp) / 1000, Number(claimsOf(body.status.token).exp));
  });

  test.serial('a TokenRequest fails for an absent or another’s Pod, an absent account, and a lifetime out of bounds', async (t) => {
    const { ns, request } = await workload(t);
    await cluster().ok('POST', `/api/v1/namespaces/${ns}/serviceaccounts`, { body: { metadata: { name: 'eval' } } });
    const bound = (reference: object): object => ({ audiences: ['kura'], boundObjectRef: { kind: 'Pod', apiVersion: 'v1', ...reference } });
    const pods = { absent: bound({ name: 'none' }), stale: bound({ name: 'p', uid: 'x' }), own: bound({ name: 'p' }) };
    const rows: [string, Promise<Reply>, number, string, RegExp][] = [
      ['absent Pod', request('trainer', pods.absent), 404, 'NotFound', /^pods "none" not found$/],
      ['another uid', request('trainer', pods.stale), 409, 'Conflict', /^Operation cannot be fulfilled on Pod "p": the UID in the bound/],
      [
        'another’s Pod',
        request('eval', pods.own),
        400,
        'BadRequest',
        /^cannot bind token for serviceaccount "eval" to pod running with diff/,
      ],
      ['too short', request('trainer', { expirationSeconds: 599 }), 422, 'Invalid', /may not specify a duration less than 10 minutes$/],
      ['too long', request('trainer', { expirationSeconds: 5e9 }), 422, 'Invalid', /may not specify a duration larger than 2\^32 seconds$/],
      ['absent account', request('nobody', {}), 404, 'NotFound', /^serviceaccounts "nobody" not found$/],
    ];
    for (const [what, answer, code, reason, message] of rows) {
      const { status, body } = await answer;
      t.deepEqual([status, body.reason], [code, reason], what);
      t.regex(body.message, message, what);
    }
  });

  test.serial('a review without a token is a bad request, and reviews cannot be read', async (t) => {
    const { call } = cluster();
    for (const body of [{ spec: { token: '' } }, { spec: {} }, {}]) {
      const answer = await call('POST', reviews, { body });
      t.deepEqual([answer.status, answer.body.message], [400, 'token is required for TokenReview in authentication']);
    }
    t.is((await call('GET', reviews)).status, 405);
  });
}
