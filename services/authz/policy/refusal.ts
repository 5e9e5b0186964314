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
}

type Lists = Pick<Access, 'allowed' | 'denied'>;

export function refusalText({ key, ...refused }: Refused & { readonly key: string }, lists: Lists): string {
  const denying = lists.denied[refused.verb].find((prefix) => key.startsWith(prefix));
  return `${startOf(refused, clip(key, maxShownKeyCharacters))}: ${reasonOf(refused.verb, denying, lists)}`;
}

/** For a verb over all keys under a prefix, such as a removal. */
export function prefixRefusalText({ prefix, ...refused }: Refused & { readonly prefix: string }, lists: Lists): string {
  const start = startOf(refused, prefix === '' ? 'all keys' : `all keys under ${clip(prefix, maxShownKeyCharacters)}`);
  const denying = lists.denied[refused.verb].find((each) => prefix.startsWith(each) || each.startsWith(prefix));
  const why = denying === undefined ? 'no rule covers the whole prefix; ' : '';
  return `${start}: ${why}${reasonOf(refused.verb, denying, lists)}`;
}

function startOf({ identity, verb }: Refused, what: string): string {
  return `the policy does not allow ${identity.namespace}/${identity.serviceAccount} to ${verb} ${what}`;
}

function reasonOf(verb: Verb, denying: string | undefined, { allowed }: Lists): string {
  if (denying !== undefined) return `it denies ${verb} ${under([denying])}`;
  return `it allows ${allowed[verb].length === 0 ? `no ${verb}` : `${verb} ${under(allowed[verb])}`}`;
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
