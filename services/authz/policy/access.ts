/** The access of a ServiceAccount under the current policies, computed once and cached. */

import type { Identity } from '../identity/identity.ts';
import { type GrantScope, grantOf } from './grant.ts';
import type { OriginTerms } from './origin-terms.ts';
import type { Access, Labels, Policy } from './policy.ts';

/** The inputs of an access besides the ServiceAccount, compared by reference. */
interface Circumstances {
  readonly policy: Policy;
  /** The next policy, which is evaluated but not enforced. */
  readonly next: Policy | undefined;
  /** Labels of the identity's namespace. */
  readonly labels: Labels;
  readonly origins: readonly OriginTerms[];
  /** Version of the policy in force. */
  readonly version: string;
}

interface KnownAccess {
  readonly inForce: Access;
  readonly next: Access | undefined;
  /** Returns the same object while nothing changes. `seconds`: a whole number up to 60. */
  grantFor(seconds: number): GrantScope | undefined;
}

/** Cached ServiceAccounts. Above this limit the oldest entry is removed. An entry takes some KB, more with many rules. */
const maxRemembered = 10_000;

export function rememberAccess(): (identity: Identity, circumstances: Circumstances) => KnownAccess {
  const remembered = new Map<string, { circumstances: Circumstances; access: KnownAccess }>();
  return (identity, circumstances) => {
    const name = `${identity.namespace}/${identity.serviceAccount}`;
    const found = remembered.get(name);
    if (found !== undefined && isSame(found.circumstances, circumstances)) return found.access;
    const access = accessUnder(identity, circumstances);
    remembered.delete(name);
    remembered.set(name, { circumstances, access });
    if (remembered.size > maxRemembered) remembered.delete(remembered.keys().next().value as string);
    return access;
  };
}

function accessUnder(identity: Identity, { policy, next: nextPolicy, labels, origins, version }: Circumstances): KnownAccess {
  const inForce = policy.accessOf({ identity, labels });
  const next = nextPolicy?.accessOf({ identity, labels });
  const accesses = next === undefined ? ([inForce] as const) : ([inForce, next] as const);
  const grants = new Map<number, GrantScope | undefined>();
  return {
    inForce,
    next,
    grantFor: (seconds) => {
      if (seconds <= 0) return undefined;
      if (!grants.has(seconds)) grants.set(seconds, grantOf({ accesses, origins, version, seconds }));
      return grants.get(seconds);
    },
  };
}

function isSame(a: Circumstances, b: Circumstances): boolean {
  return a.policy === b.policy && a.next === b.next && a.labels === b.labels && a.origins === b.origins && a.version === b.version;
}
