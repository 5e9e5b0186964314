/** Every denial that authz answers: its status, its stable code, a sentence and its headers (docs/reference.md lists them). */
import { maxKeyBytes } from '../shared/key.ts';
import type { Problem } from '../shared/problem.ts';
import type { Decision } from './decision.ts';

type Denial = Exclude<Decision, { kind: 'allow' }>;
type Headers = Readonly<Record<string, string>>;

interface Row<D extends Denial = Denial> {
  readonly status: 201 | 400 | 401 | 403 | 404 | 405 | 413 | 429 | 503;
  readonly code: string;
  readonly detail: string | ((decision: D) => string);
  /** For docs/reference.md, where the detail depends on the decision. */
  readonly meaning?: string;
  readonly headers?: Headers | ((decision: D) => Headers);
}

/** A folder is the one denial with two statuses. */
type RowName<D extends Denial = Denial> = D extends { kind: 'folder' } ? `folder-${D['answer']}` : D['kind'];

const retrySoon: Headers = { 'retry-after': '1' };

export const problems: { readonly [D in Denial as RowName<D>]: Row<D> } = {
  unauthenticated: {
    status: 401,
    code: 'unauthenticated',
    detail: ({ reason }) => reason,
    meaning: 'The request has no bearer token, or the Kubernetes API does not accept it. The detail says why.',
    headers: { 'www-authenticate': 'Bearer realm="kura", error="invalid_token"' },
  },
  forbidden: {
    status: 403,
    code: 'forbidden',
    detail: ({ detail }) => detail,
    meaning: 'The policy does not allow this request. The detail names the identity, the verb, the key and the prefixes that are allowed.',
  },
  'folder-made': { status: 201, code: 'no-folders', detail: 'kura has no folders, and needs none' },
  'folder-absent': { status: 404, code: 'no-folders', detail: 'kura has no folders' },
  'bad-key': {
    status: 400,
    code: 'bad-key',
    detail: `the key is not 1 to ${maxKeyBytes} bytes of printable ASCII without . and .. segments`,
  },
  'bad-prefix': {
    status: 400,
    code: 'bad-prefix',
    detail: `a prefix ends with /, or is empty, and has up to ${maxKeyBytes} bytes of printable ASCII without . and .. segments`,
  },
  'no-such-path': {
    status: 404,
    code: 'no-such-path',
    detail: 'objects are under /objects/, /direct/ and /through/, and prefixes under /prefetch/ and /datasets/',
  },
  'no-origin': { status: 404, code: 'no-origin', detail: 'the keys under this prefix have no origin' },
  'bad-method': {
    status: 405,
    code: 'method-not-allowed',
    detail: ({ allowed }) => `this path supports ${allowed.join(', ')}`,
    meaning: 'This path does not support the method. `Allow` lists those that it supports.',
    headers: ({ allowed }) => ({ allow: allowed.join(', ') }),
  },
  'too-large': {
    status: 413,
    code: 'too-large',
    detail: ({ maxObjectBytes }) => `the policy limits an object to ${maxObjectBytes} bytes`,
    meaning: 'The announced length is above the limit of the policy.',
  },
  'too-many-requests': {
    status: 429,
    code: 'too-many-requests',
    detail: ({ identity, excess: { limit, perSecond } }) =>
      `the policy limits ${identity.namespace} to ${perSecond} ${limit === 'bytesPerSecond' ? 'bytes' : 'requests'} a second at each Envoy`,
    meaning: 'The namespace has used up its requests or bytes a second at this Envoy.',
    headers: ({ excess }) => ({ 'retry-after': String(Math.ceil(excess.waitSeconds)) }),
  },
  unavailable: {
    status: 503,
    code: 'identity-unavailable',
    detail: ({ reason }) => reason,
    meaning: 'authz cannot check the token, since the Kubernetes API does not answer, or since authz has too many checks.',
    headers: retrySoon,
  },
  'no-policy': { status: 503, code: 'policy-unavailable', detail: 'authz has not received a policy yet', headers: retrySoon },
};

interface DenialProblem extends Problem {
  readonly status: Row['status'];
  readonly headers: Headers;
}

export function problemOf(decision: Denial): DenialProblem {
  const name: RowName = decision.kind === 'folder' ? `folder-${decision.answer}` : decision.kind;
  // The row of this very kind, which the compiler cannot follow.
  const { status, code, detail, headers = {} } = problems[name] as Row;
  return {
    status,
    code,
    detail: typeof detail === 'function' ? detail(decision) : detail,
    headers: typeof headers === 'function' ? headers(decision) : headers,
  };
}
