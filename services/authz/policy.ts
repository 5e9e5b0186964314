/** Pure: what an identity may do. For now the one rule that a namespace owns the prefix that bears its name. */
import type { Key } from '../shared/key.ts';
import type { Identity } from './identity.ts';

export const verbs = ['GET', 'HEAD', 'PUT', 'DELETE'] as const;
export type Verb = (typeof verbs)[number];

export interface Verdict {
  readonly allowed: boolean;
  /** The name of the rule that decided, or `default`. */
  readonly rule: string;
  readonly maxObjectBytes: number;
}

const maxObjectBytes = 64 * 2 ** 30;

export function decide({ identity, key }: { identity: Identity; verb: Verb; key: Key }): Verdict {
  const isOwn = key.startsWith(`${identity.namespace}/`);
  return { allowed: isOwn, rule: isOwn ? 'own' : 'default', maxObjectBytes };
}
