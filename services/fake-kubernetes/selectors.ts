/** Pure: the label and field selectors of list and watch. */
import { isFields, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import { badRequest } from './status.ts';

export type Predicate = (object: StoredObject) => boolean;

/** Limits the work, because every object of a collection is compared with the selector. */
const maxSelectorLength = 8_192;

const everyKind = ['metadata.name', 'metadata.namespace'];
/** Further fields of the real API by collection, as far as kura or `kubectl describe` uses them. */
const byKind: Readonly<Record<string, readonly string[]>> = {
  pods: ['spec.nodeName', 'spec.serviceAccountName', 'status.phase'],
  events: [...['kind', 'namespace', 'name', 'uid'].map((field) => `involvedObject.${field}`), 'reason', 'type'],
};

/** Parses `a=b,c!=d` over the fields of the kind. Throws ApiError (400) for other fields. */
export function parseFieldSelector({ plural }: Resource, selector: string): Predicate {
  const tests = termsOf(selector, ',').map((term): Predicate => {
    const match = /^([^=!]+)(==|=|!=)(.*)$/.exec(term);
    if (match === null) throw badRequest(`invalid selector: '${selector}'; can't understand '${term}'`);
    const [, field, operator, value] = match as unknown as [string, string, string, string];
    const own = byKind[plural];
    if (![...everyKind, ...(own ?? [])].includes(field)) {
      const only = everyKind.map((known) => `"${known}"`).join(', ');
      throw badRequest(
        own === undefined ? `"${field}" is not a known field selector: only ${only}` : `field label not supported: ${field}`,
      );
    }
    return (object) => (textAt(object, field) === value) === (operator !== '!=');
  });
  return (object) => tests.every((test) => test(object));
}

/** Parses `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)` and `a notin (b,c)`, joined by commas. Throws ApiError (400) for anything else. */
export function parseLabelSelector(selector: string): Predicate {
  const tests = termsOf(selector, /,(?![^(]*\))/).map(labelTest);
  return (object) => tests.every((test) => test(object));
}

function labelTest(term: string): Predicate {
  const value = ({ metadata }: StoredObject, key = ''): string | undefined => metadata.labels?.[key];
  const set = /^([\w./-]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term);
  if (set !== null) {
    const [, key, operator, items = ''] = set;
    const values: ReadonlySet<string | undefined> = new Set(items.split(',').map((item) => item.trim()));
    return (object) => values.has(value(object, key)) === (operator === 'in');
  }
  const equality = /^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$/.exec(term);
  if (equality !== null) {
    const [, key, operator, wanted] = equality;
    return (object) => (value(object, key) === wanted) === (operator !== '!=');
  }
  const existence = /^(!?)\s*([\w./-]+)$/.exec(term);
  if (existence === null) throw badRequest(`unable to parse requirement: ${term}`);
  const [, not, key] = existence;
  return (object) => (value(object, key) !== undefined) === (not === '');
}

function termsOf(selector: string, separator: string | RegExp): string[] {
  if (selector.length > maxSelectorLength) {
    throw badRequest(`the selector has ${selector.length} characters; the limit is ${maxSelectorLength}`);
  }
  return selector
    .split(separator)
    .map((term) => term.trim())
    .filter((term) => term !== '');
}

/** The string at a path such as `spec.nodeName`; empty when there is none. */
function textAt(object: StoredObject, path: string): string {
  const value = path.split('.').reduce<unknown>((part, field) => (isFields(part) ? part[field] : undefined), object);
  return typeof value === 'string' ? value : '';
}
