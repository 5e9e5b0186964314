/** Pure: label and field selectors of list and watch. */
import { type Fields, isFields, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import { badRequest } from './status.ts';

export type Predicate = (object: StoredObject) => boolean;

/** Longest selector that is read: every object of a collection is held against it. */
const longestSelector = 8_192;

type Read = (object: StoredObject) => string;
const specField =
  (field: string): Read =>
  ({ spec }) =>
    text(spec, field);
const statusField =
  (field: string): Read =>
  ({ status }) =>
    text(status, field);
const aboutField =
  (field: string): Read =>
  ({ involvedObject }) =>
    isFields(involvedObject) ? text(involvedObject, field) : '';
const ownField =
  (field: string): Read =>
  (object) =>
    text(object, field);

const everyKind: Readonly<Record<string, Read>> = {
  'metadata.name': ({ metadata }) => metadata.name,
  'metadata.namespace': ({ metadata }) => metadata.namespace ?? '',
};
/** What the real API offers besides, by collection. */
const byKind: Readonly<Record<string, Readonly<Record<string, Read>>>> = {
  pods: {
    'spec.nodeName': specField('nodeName'),
    'spec.restartPolicy': specField('restartPolicy'),
    'spec.schedulerName': specField('schedulerName'),
    'spec.serviceAccountName': specField('serviceAccountName'),
    'status.phase': statusField('phase'),
    'status.podIP': statusField('podIP'),
    'status.nominatedNodeName': statusField('nominatedNodeName'),
  },
  nodes: { 'spec.unschedulable': (object) => specField('unschedulable')(object) || 'false' },
  namespaces: { 'status.phase': statusField('phase') },
  services: { 'spec.clusterIP': specField('clusterIP'), 'spec.type': specField('type') },
  events: {
    ...Object.fromEntries(
      ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath'].map((field) => [
        `involvedObject.${field}`,
        aboutField(field),
      ]),
    ),
    reason: ownField('reason'),
    reportingComponent: ownField('reportingComponent'),
    type: ownField('type'),
    source: ({ source }) => (isFields(source) ? text(source, 'component') : ''),
  },
};

/** `a=b,c!=d` over the fields that the real API offers for the kind. Throws ApiError (400) for others. */
export function parseFieldSelector({ plural }: Resource, selector: string): Predicate {
  requireShort(selector);
  const own = byKind[plural];
  const terms = selector.split(',').filter((term) => term !== '');
  const tests = terms.map((term): Predicate => {
    const match = /^([^=!]+)(==|=|!=)(.*)$/.exec(term);
    if (match === null) throw badRequest(`invalid selector: '${selector}'; can't understand '${term}'`);
    const [, field, operator, value] = match as unknown as [string, string, string, string];
    const read = everyKind[field] ?? own?.[field];
    if (read === undefined) {
      const only = '"metadata.name", "metadata.namespace"';
      throw badRequest(
        own === undefined ? `"${field}" is not a known field selector: only ${only}` : `field label not supported: ${field}`,
      );
    }
    return operator === '!=' ? (object) => read(object) !== value : (object) => read(object) === value;
  });
  return (object) => tests.every((test) => test(object));
}

/** `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b,c)`, joined by commas. Throws ApiError (400) for anything else. */
export function parseLabelSelector(selector: string): Predicate {
  requireShort(selector);
  const terms = selector.split(/,(?![^(]*\))/).map((term) => term.trim());
  const tests = terms.filter((term) => term !== '').map(labelTest);
  return (object) => tests.every((test) => test(object));
}

function labelTest(term: string): Predicate {
  const value = ({ metadata }: StoredObject, key: string): string | undefined => metadata.labels?.[key];
  const set = /^([\w./-]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term);
  if (set !== null) {
    const [, key, operator, listed] = set as unknown as [string, string, string, string];
    const values: ReadonlySet<string | undefined> = new Set(listed.split(',').map((item) => item.trim()));
    return (object) => values.has(value(object, key)) === (operator === 'in');
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

function requireShort(selector: string): void {
  if (selector.length > longestSelector) throw badRequest(`a selector may have ${longestSelector} characters`);
}

function text(part: Fields | undefined, field: string): string {
  const value = part?.[field];
  return value === undefined || value === null || typeof value === 'object' ? '' : String(value);
}
