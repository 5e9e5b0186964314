/** Pure: what an identity may do under the policies of the moment, worked out once for each remembered identity and not with every check. */
import { type Grant, grantOf } from './grant.ts';
import type { Identity } from './identity.ts';
import type { Access, Labels, Policy } from './policy.ts';

/** All that an access depends on besides the identity; compared by reference. */
export interface Circumstances {
  readonly policy: Policy;
  /** The policy that is evaluated in the shadow. */
  readonly next: Policy | undefined;
  /** Of the identity's namespace. */
  readonly labels: Labels;
  /** Of the policy in force. */
  readonly version: string;
}

export interface KnownAccess {
  readonly inForce: Access;
  readonly next: Access | undefined;
  /** The same object as long as nothing changes, so that its encoded form can be kept with it. */
  grantFor(seconds: number): Grant | undefined;
}

/** Returns the lookup. What is known goes with the identity's own object. */
export function rememberAccess(): (identity: Identity, circumstances: Circumstances) => KnownAccess {
  const remembered = new WeakMap<Identity, { circumstances: Circumstances; access: KnownAccess }>();
  return (identity, circumstances) => {
    const found = remembered.get(identity);
    if (found !== undefined && isSame(found.circumstances, circumstances)) return found.access;
    const access = accessUnder(identity, circumstances);
    remembered.set(identity, { circumstances, access });
    return access;
  };
}

function accessUnder(identity: Identity, { policy, next: nextPolicy, labels, version }: Circumstances): KnownAccess {
  const inForce = policy.accessOf({ identity, labels });
  const next = nextPolicy?.accessOf({ identity, labels });
  let last: { seconds: number; grant: Grant | undefined } | undefined;
  return {
    inForce,
    next,
    grantFor: (seconds) => {
      if (last?.seconds !== seconds) {
        last = { seconds, grant: grantOf({ identity, accesses: next === undefined ? [inForce] : [inForce, next], version, seconds }) };
      }
      return last.grant;
    },
  };
}

function isSame(a: Circumstances, b: Circumstances): boolean {
  return a.policy === b.policy && a.next === b.next && a.labels === b.labels && a.version === b.version;
}
