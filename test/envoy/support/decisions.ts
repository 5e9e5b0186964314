/** What the authz of a rig says. */
import type { Decision } from '../../../services/authz/decision.ts';
import { byVerb } from '../../../services/authz/policy/document.ts';
import type { Grant } from '../../../services/authz/policy/grant.ts';
import { callerHeaders } from '../../support/caller.ts';

type Allow = Extract<Decision, { kind: 'allow' }>;
type CallerChanges = NonNullable<Parameters<typeof callerHeaders>[0]>;

/** A token of the form that Envoy passes on. `name` is its middle part. */
export const tokenOf = (name: string): string => `e30.${name}.x`;
/** The name in a token of `tokenOf`. */
export const nameIn = (token: string | undefined): string => String(token?.split('.')[1]);

export const everywhere = (prefixes: readonly string[]): Grant['allowed'] => byVerb(() => prefixes);

/** With a signature that nothing here checks. */
export function headersOf(changes: CallerChanges = {}): Pick<Grant, 'caller' | 'terms'> {
  const signed = callerHeaders({ maxObjectBytes: 1_000_000, credential: 'credential-of-the-rig-0123456789', ...changes });
  return { caller: signed['x-kura-caller'], terms: signed['x-kura-terms'] };
}

export function grant(changes: Partial<Grant> = {}): Grant {
  return {
    ...headersOf(),
    allowed: everywhere(['vision/']),
    denied: everywhere([]),
    seconds: 60,
    policy: 'v1',
    ...changes,
  };
}

export function allow(given: Grant | undefined, changes: Partial<Allow> = {}): Allow {
  const { caller, terms } = given ?? headersOf();
  const [namespace, serviceAccount] = caller.split('/');
  const identity = { namespace, serviceAccount } as Allow['identity'];
  return {
    kind: 'allow',
    identity,
    rule: 'own',
    cached: true,
    caller,
    terms,
    wouldDeny: false,
    difference: undefined,
    grant: given,
    countsBytes: false,
    ...changes,
  };
}

export const forbidden: Decision = {
  kind: 'forbidden',
  reason: 'no',
  detail: 'no',
  identity: { namespace: 'vision', serviceAccount: 'trainer' } as Allow['identity'],
  rule: 'default',
  difference: undefined,
};
