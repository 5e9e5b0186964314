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
  /** The same past the real API's cache of good answers: a fresh audience makes a fresh question. */
  // biome-ignore lint/suspicious/noExplicitAny: any status.
  readonly freshReview: (token: string) => Promise<any>;
}

/** Whom a token belongs to, and when it ceases to. */
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

  test.serial('the review repeats the question, and hears no status in it', async (t) => {
    const { token } = await workload(t);
    const spec = { token, audiences: ['other'] };
    const body = { metadata: { name: 'n' }, spec, status: { authenticated: true, user: { username: 'root' } } };
    const answer = await cluster().call('POST', reviews, { body });
    t.is(answer.status, 201);
    t.like(answer.body, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: { name: 'n' }, spec });
    t.deepEqual(Object.keys(answer.body.status).sort(), ['error', 'user']);
  });

  test.serial('a token says what it was asked for, signed with a published key', async (t) => {
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

  test.serial('a refusal has no `authenticated` and says why', async (t) => {
    const { token, review } = await workload(t);
    const { signingKey } = cluster();
    const now = Math.floor(Date.now() / 1000);
    const again = (parts: Parameters<typeof remint>[2]): string => remint(token, signingKey, parts);
    const [head, claims, signature] = token.split('.') as [string, string, string];
    const damaged = `${head}.${claims}.${signature.slice(0, -8)}${signature.endsWith('AAAAAAAA') ? 'BBBBBBBB' : 'AAAAAAAA'}`;
    const primitive = '[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]';
    const audience = (asked: string): string =>
      `[invalid bearer token, token audiences ["kura"] is invalid for the target audiences ${asked}]`;
    const rows: [string, string, string, string[]?][] = [
      ['wrong audience', token, audience('["other"]'), ['other']],
      ['wrong audiences', token, audience('["other" "x y"]'), ['other', 'x y']],
      ['the API’s own audience', token, audience('["https://kubernetes.default.svc"]'), []],
      ['garbage', 'garbage', 'invalid bearer token'],
      ['garbage with a space', 'a b', 'invalid bearer token'],
      ['garbage in three parts', 'a.b.c', 'invalid bearer token'],
      ['another issuer', again({ claims: { iss: 'https://elsewhere' } }), 'invalid bearer token'],
      ['a damaged signature', damaged, primitive],
      [
        'other claims under the signature',
        `${head}.${again({ claims: { aud: ['other'] } }).split('.')[1]}.${signature}`,
        primitive,
        ['other'],
      ],
      ['alg none', again({ header: { alg: 'none' } }), primitive],
      ['an unknown kid', again({ header: { kid: 'unknown' } }), '[invalid bearer token, invalid signature, no keys found]'],
      ['expired', again({ claims: { exp: now - 90 } }), '[invalid bearer token, service account token has expired]'],
      ['not yet valid', again({ claims: { nbf: now + 90 } }), '[invalid bearer token, service account token is not valid yet]'],
      ['expired and of another audience', again({ claims: { exp: now - 90 } }), audience('["other"]'), ['other']],
    ];
    for (const [what, presented, error, audiences] of rows) t.deepEqual(await review(presented, audiences), { user: {}, error }, what);
    t.true((await review(again({ claims: { exp: now - 30 } }))).authenticated, 'within the leeway of 60 s');
    t.true((await review(again({ claims: { nbf: now + 30 } }))).authenticated, 'within the leeway of 60 s');
  });

  test.serial('a token ends with its Pod, with another Pod of that name too', async (t) => {
    const { ns, node, pod: own, token, freshReview } = await workload(t);
    const { ok } = cluster();
    const pods = `/api/v1/namespaces/${ns}/pods`;
    t.true((await freshReview(token)).authenticated);
    await ok('DELETE', `${pods}/p?gracePeriodSeconds=0`);
    await waitFor('the token is refused', async () => (await freshReview(token)).error === invalidated);
    const other = (await ok('POST', pods, { body: pod('p', { node, serviceAccountName: 'trainer' }) })).metadata.uid;
    const error = `[invalid bearer token, pod UID (${other}) does not match service account pod ref claim (${own.metadata.uid})]`;
    await waitFor('the new one is seen', async () => (await freshReview(token)).error === error);
  });

  test.serial('a token outlives the beginning and the success of its Pod’s end', async (t) => {
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

  test.serial('a token ends with its ServiceAccount, made anew too', async (t) => {
    const { ns, account, token, freshReview } = await workload(t);
    const { ok } = cluster();
    const accounts = `/api/v1/namespaces/${ns}/serviceaccounts`;
    await ok('DELETE', `${accounts}/trainer`);
    const gone = '[invalid bearer token, serviceaccounts "trainer" not found]';
    await waitFor('the token is refused', async () => (await freshReview(token)).error === gone);
    const anew = (await ok('POST', accounts, { body: { metadata: { name: 'trainer' } } })).metadata.uid;
    const error = `[invalid bearer token, service account UID (${anew}) does not match claim (${account.metadata.uid})]`;
    await waitFor('the new one is seen', async () => (await freshReview(token)).error === error);
    t.is((await freshReview(token)).error, error);
  });

  test.serial('an unbound token has no Pod; one of a Node has the Node and ends with it', async (t) => {
    const { node, request, review, freshReview } = await workload(t);
    const unbound = await request('trainer', { audiences: ['kura'] });
    t.is(unbound.body.spec.expirationSeconds, 3_600);
    t.is(unbound.body.spec.boundObjectRef, null);
    const prefix = 'authentication.kubernetes.io/';
    t.deepEqual(Object.keys((await review(unbound.body.status.token)).user.extra), [`${prefix}credential-id`]);
    const bound = await request('trainer', { audiences: ['kura'], boundObjectRef: { kind: 'Node', apiVersion: 'v1', name: node } });
    const { token } = bound.body.status;
    const { extra } = (await review(token)).user;
    t.deepEqual(Object.keys(extra).sort(), [`${prefix}credential-id`, `${prefix}node-name`, `${prefix}node-uid`]);
    await cluster().ok('DELETE', `/api/v1/nodes/${node}`);
    await waitFor('the token is refused', async () => (await freshReview(token)).error === invalidated);
  });

  test.serial('a token without audiences is one for the API: it may call it, others may not', async (t) => {
    const { ns, token, request, review } = await workload(t);
    const { body } = await request('trainer', {});
    const own = body.status.token;
    t.deepEqual(body.spec.audiences, ['https://kubernetes.default.svc']);
    t.deepEqual((await review(own, [])).audiences, ['https://kubernetes.default.svc']);
    t.is((await review(own, ['kura'])).authenticated, undefined);
    const { call } = cluster();
    t.is((await call('GET', `/api/v1/namespaces/${ns}/pods`, { token })).status, 401);
    // 403 where the API knows whom it refuses.
    t.true([200, 403].includes((await call('GET', `/api/v1/namespaces/${ns}/pods`, { token: own })).status));
  });

  test.serial('a TokenRequest answers with the ServiceAccount’s name and what it granted', async (t) => {
    const { ns, account, request } = await workload(t);
    const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'p' };
    const { status, body } = await request('trainer', { audiences: ['kura'], expirationSeconds: 700, boundObjectRef });
    t.is(status, 201);
    t.like(body, { kind: 'TokenRequest', apiVersion: 'authentication.k8s.io/v1' });
    t.like(body.metadata, { name: 'trainer', namespace: ns, uid: account.metadata.uid });
    t.deepEqual(body.spec, { audiences: ['kura'], expirationSeconds: 700, boundObjectRef });
    t.is(Date.parse(body.status.expirationTimestamp) / 1000, Number(claimsOf(body.status.token).exp));
  });

  test.serial('a TokenRequest is refused for what is absent, another’s, too short or too long', async (t) => {
    const { ns, request } = await workload(t);
    await cluster().ok('POST', `/api/v1/namespaces/${ns}/serviceaccounts`, { body: { metadata: { name: 'eval' } } });
    const bound = (reference: object): object => ({ audiences: ['kura'], boundObjectRef: { kind: 'Pod', apiVersion: 'v1', ...reference } });
    const life = 'TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value';
    const rows: [string, Promise<Reply>, number, string, string][] = [
      ['absent Pod', request('trainer', bound({ name: 'none' })), 404, 'NotFound', 'pods "none" not found'],
      [
        'another uid',
        request('trainer', bound({ name: 'p', uid: 'x' })),
        409,
        'Conflict',
        'Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated',
      ],
      [
        'another’s Pod',
        request('eval', bound({ name: 'p' })),
        400,
        'BadRequest',
        'cannot bind token for serviceaccount "eval" to pod running with different serviceaccount name.',
      ],
      [
        'another kind',
        request('trainer', bound({ kind: 'ConfigMap', name: 'p' })),
        400,
        'BadRequest',
        'cannot bind token to object of type /v1, Kind=ConfigMap',
      ],
      [
        'too short',
        request('trainer', { expirationSeconds: 599 }),
        422,
        'Invalid',
        `${life}: 599: may not specify a duration less than 10 minutes`,
      ],
      [
        'too long',
        request('trainer', { expirationSeconds: 5_000_000_000 }),
        422,
        'Invalid',
        `${life}: 5000000000: may not specify a duration larger than 2^32 seconds`,
      ],
      ['absent account', request('nobody', {}), 404, 'NotFound', 'serviceaccounts "nobody" not found'],
      [
        'another name',
        request('trainer', {}, { name: 'other' }),
        422,
        'Invalid',
        'TokenRequest.authentication.k8s.io "trainer" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified',
      ],
    ];
    for (const [what, answer, code, reason, message] of rows) {
      const { status, body } = await answer;
      t.deepEqual([status, body.reason, body.message], [code, reason, message], what);
    }
  });

  test.serial('a review of no token is a bad request, and there is nothing to read', async (t) => {
    const { call } = cluster();
    for (const body of [{ spec: { token: '' } }, { spec: {} }, {}]) {
      const answer = await call('POST', reviews, { body });
      t.deepEqual([answer.status, answer.body.message], [400, 'token is required for TokenReview in authentication']);
    }
    t.is((await call('GET', reviews)).status, 405);
  });
}
