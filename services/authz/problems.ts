/** Every denial that authz answers: its status, its stable code, a sentence and its headers (README.md has the same table). */
import { maxKeyBytes } from '../shared/key.ts';
import type { Problem } from '../shared/problem.ts';
import type { Decision } from './decision.ts';

type Denial = Exclude<Decision, { kind: 'allow' }>;
type Headers = Readonly<Record<string, string>>;

interface Row<D extends Denial = Denial> {
  readonly status: 201 | 400 | 401 | 403 | 404 | 405 | 413 | 429 | 503;
  readonly code: string;
  readonly detail: string | ((decision: D) => string);
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
    headers: { 'www-authenticate': 'Bearer realm="kura", error="invalid_token"' },
  },
  forbidden: { status: 403, code: 'forbidden', detail: ({ reason }) => reason },
  'folder-made': { status: 201, code: 'no-folders', detail: 'there are no folders: none is needed' },
  'folder-absent': { status: 404, code: 'no-folders', detail: 'there are no folders' },
  'bad-key': {
    status: 400,
    code: 'bad-key',
    detail: `the key is not 1 to ${maxKeyBytes} bytes of printable ASCII without . and .. segments`,
  },
  'no-such-path': { status: 404, code: 'no-such-path', detail: 'objects are under /objects/' },
  'bad-method': {
    status: 405,
    code: 'method-not-allowed',
    detail: ({ allowed }) => `objects know ${allowed.join(', ')}`,
    headers: ({ allowed }) => ({ allow: allowed.join(', ') }),
  },
  'too-large': {
    status: 413,
    code: 'too-large',
    detail: ({ maxObjectBytes }) => `an object may have at most ${maxObjectBytes} bytes here`,
  },
  'too-many-requests': {
    status: 429,
    code: 'too-many-requests',
    detail: ({ identity, excess: { limit, perSecond } }) =>
      `${identity.namespace} may have ${perSecond} ${limit === 'bytesPerSecond' ? 'bytes' : 'requests'} a second here`,
    headers: ({ excess }) => ({ 'retry-after': String(Math.ceil(excess.waitSeconds)) }),
  },
  unavailable: { status: 503, code: 'identity-unavailable', detail: ({ reason }) => reason, headers: retrySoon },
  'no-policy': { status: 503, code: 'policy-unavailable', detail: 'no policy has been seen yet', headers: retrySoon },
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
