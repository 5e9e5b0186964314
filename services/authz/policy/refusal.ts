/** Pure: the sentence of a 403 for its client. It names the key and the prefixes of rules that apply to the caller, and nothing else. */
import type { Identity } from '../identity/identity.ts';
import type { Verb } from './document.ts';
import type { Access } from './policy.ts';

const maxShownKeyCharacters = 256;
const maxShownPrefixes = 5;
const maxShownPrefixCharacters = 64;

interface Refused {
  readonly identity: Pick<Identity, 'namespace' | 'serviceAccount'>;
  readonly verb: Verb;
  readonly key: string;
}

export function refusalText({ identity, verb, key }: Refused, { allowed, denied }: Pick<Access, 'allowed' | 'denied'>): string {
  const start = `the policy does not allow ${identity.namespace}/${identity.serviceAccount} to ${verb} ${clip(key, maxShownKeyCharacters)}`;
  const denying = denied[verb].find((prefix) => key.startsWith(prefix));
  if (denying !== undefined) return `${start}: it denies ${verb} ${under([denying])}`;
  return `${start}: it allows ${allowed[verb].length === 0 ? `no ${verb}` : `${verb} ${under(allowed[verb])}`}`;
}

function under(prefixes: readonly string[]): string {
  const distinct = [...new Set(prefixes)];
  if (distinct.includes('')) return 'of every key';
  const shown = distinct.slice(0, maxShownPrefixes).map((prefix) => clip(prefix, maxShownPrefixCharacters));
  const hidden = distinct.length - shown.length;
  return `under ${shown.join(', ')}${hidden === 0 ? '' : ` and ${hidden} more`}`;
}

function clip(text: string, maxCharacters: number): string {
  return text.length <= maxCharacters ? text : `${text.slice(0, maxCharacters)}...`;
}
