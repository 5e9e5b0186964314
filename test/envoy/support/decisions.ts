/** What the authz of a rig says. */
import type { Decision } from '../../../services/authz/decision.ts';
import { byVerb } from '../../../services/authz/policy/document.ts';
import type { Grant } from '../../../services/authz/policy/grant.ts';

type Allow = Extract<Decision, { kind: 'allow' }>;

export const everywhere = (prefixes: readonly string[]): Grant['allowed'] => byVerb(() => prefixes);

export function grant(changes: Partial<Grant> = {}): Grant {
  return {
    namespace: 'vision',
    serviceAccount: 'trainer',
    maxObjectBytes: 1_000_000,
    maxShare: undefined,
    allowed: everywhere(['vision/']),
    denied: everywhere([]),
    seconds: 60,
    policy: 'v1',
    ...changes,
  };
}

export function allow(given: Grant | undefined, changes: Partial<Allow> = {}): Allow {
  const { namespace = 'vision', serviceAccount = 'trainer', maxObjectBytes = 1_000_000, maxShare = undefined } = given ?? {};
  const identity = { namespace, serviceAccount } as Allow['identity'];
  return {
    kind: 'allow',
    identity,
    rule: 'own',
    cached: true,
    maxObjectBytes,
    maxShare,
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
  identity: { namespace: 'vision', serviceAccount: 'trainer' } as Allow['identity'],
  rule: 'default',
  difference: undefined,
};
