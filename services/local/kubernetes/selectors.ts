/** Pure: label and field selectors of list and watch. */

import { badRequest } from './status.ts';
import type { StoredObject } from './store.ts';

export type Predicate = (object: StoredObject) => boolean;

const fields: Readonly<Record<string, (object: StoredObject) => string>> = {
  'metadata.name': ({ metadata }) => metadata.name,
  'metadata.namespace': ({ metadata }) => metadata.namespace ?? '',
  'spec.nodeName': ({ spec }) => text(spec, 'nodeName'),
  'spec.serviceAccountName': ({ spec }) => text(spec, 'serviceAccountName'),
  'status.phase': ({ status }) => text(status, 'phase'),
};

/** `a=b,c!=d` over the fields that the real API offers for the stand-in's kinds. Throws ApiError (400) for others. */
export function parseFieldSelector(selector: string): Predicate {
  const terms = selector.split(',').filter((term) => term !== '');
  const tests = terms.map((term): Predicate => {
    const match = /^([^=!]+)(==|=|!=)(.*)$/.exec(term);
    const read = match === null ? undefined : fields[match[1] as string];
    if (match === null || read === undefined) throw badRequest(`Unable to find field selector for "${term}": field label not supported`);
    const [, , operator, value] = match;
    return operator === '!=' ? (object) => read(object) !== value : (object) => read(object) === value;
  });
  return (object) => tests.every((test) => test(object));
}

/** `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b,c)`, joined by commas. Throws ApiError (400) for anything else. */
export function parseLabelSelector(selector: string): Predicate {
  const terms = selector.split(/,(?![^(]*\))/).filter((term) => term.trim() !== '');
  const tests = terms.map((term): Predicate => labelTest(term.trim()));
  return (object) => tests.every((test) => test(object));
}

function labelTest(term: string): Predicate {
  const value = (object: StoredObject, key: string): string | undefined => object.metadata.labels?.[key];
  const set = /^([\w./-]+)\s+(in|notin)\s+\(([^()]*)\)$/.exec(term);
  if (set !== null) {
    const [, key, operator, list] = set as unknown as [string, string, string, string];
    const values = new Set(list.split(',').map((item) => item.trim()));
    return (object) => values.has(value(object, key) ?? '\0') === (operator === 'in');
  }
  const equality = /^([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)$/.exec(term);
  if (equality !== null) {
    const [, key, operator, wanted] = equality as unknown as [string, string, string, string];
    return (object) => (value(object, key) === wanted) === (operator !== '!=');
  }
  const existence = /^(!?)\s*([\w./-]+)$/.exec(term);
  if (existence === null) throw badRequest(`unable to parse requirement: ${term}`);
  const [, not, key] = existence as unknown as [string, string, string];
  return (object) => (value(object, key) !== undefined) === (not === '');
}

function text(part: Readonly<Record<string, unknown>> | undefined, field: string): string {
  const value = part?.[field];
  return typeof value === 'string' ? value : '';
}
