/** Pure: requests that a Kubernetes API refuses, and how. */
import { patchTypes } from './cluster.ts';

interface Refusal {
  readonly what: string;
  readonly request: readonly [method: string, path: string, body?: unknown, contentType?: string];
  readonly code: number;
  /** Undefined where the API gives none. */
  readonly reason: string | undefined;
  /** Whole, or what it begins or ends with where the rest is the implementation's own. */
  readonly message: string | RegExp;
  readonly details?: object;
}

const { merge, json } = patchTypes;
const mapsOf = (ns: string): string => `/api/v1/namespaces/${ns}/configmaps`;
const podsOf = (ns: string): string => `/api/v1/namespaces/${ns}/pods`;
const slicesOf = (ns: string): string => `/apis/discovery.k8s.io/v1/namespaces/${ns}/endpointslices`;

/** What is not there, is there already, has changed since, or cannot be done. */
export function refusalsOfPlaces(ns: string, stale: { readonly resourceVersion: string; readonly uid: string }): Refusal[] {
  const [maps, slices] = [mapsOf(ns), slicesOf(ns)];
  const named = { name: 'a', kind: 'configmaps' };
  const modified =
    'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again';
  const noMethod = 'the server does not allow this method on the requested resource';
  const noResource = 'the server could not find the requested resource';
  return [
    {
      what: 'absent',
      request: ['GET', `${maps}/none`],
      code: 404,
      reason: 'NotFound',
      message: 'configmaps "none" not found',
      details: { name: 'none', kind: 'configmaps' },
    },
    {
      what: 'absent, of a group',
      request: ['GET', `${slices}/none`],
      code: 404,
      reason: 'NotFound',
      message: 'endpointslices.discovery.k8s.io "none" not found',
      details: { name: 'none', group: 'discovery.k8s.io', kind: 'endpointslices' },
    },
    {
      what: 'replaced though absent',
      request: ['PUT', `${maps}/none`, map({ name: 'none' })],
      code: 404,
      reason: 'NotFound',
      message: 'configmaps "none" not found',
    },
    {
      what: 'patched though absent',
      request: ['PATCH', `${maps}/none`, {}, merge],
      code: 404,
      reason: 'NotFound',
      message: 'configmaps "none" not found',
    },
    {
      what: 'deleted though absent',
      request: ['DELETE', `${maps}/none`],
      code: 404,
      reason: 'NotFound',
      message: 'configmaps "none" not found',
    },
    {
      what: 'in no namespace',
      request: ['POST', '/api/v1/namespaces/none/configmaps', map({ name: 'a' })],
      code: 404,
      reason: 'NotFound',
      message: 'namespaces "none" not found',
      details: { name: 'none', kind: 'namespaces' },
    },
    {
      what: 'there already',
      request: ['POST', maps, map({ name: 'a' })],
      code: 409,
      reason: 'AlreadyExists',
      message: 'configmaps "a" already exists',
      details: named,
    },
    {
      what: 'stale version',
      request: ['PUT', `${maps}/a`, map({ name: 'a', resourceVersion: stale.resourceVersion }, { data: { k: '3' } })],
      code: 409,
      reason: 'Conflict',
      message: modified,
      details: named,
    },
    {
      what: 'stale version in a patch',
      request: ['PATCH', `${maps}/a`, { metadata: { resourceVersion: stale.resourceVersion }, data: { k: '3' } }, merge],
      code: 409,
      reason: 'Conflict',
      message: modified,
      details: named,
    },
    conflicting(
      'another uid',
      ['PUT', `${maps}/a`, map({ name: 'a', uid: 'other' })],
      new RegExp(`Precondition failed: UID in precondition: other, UID in object meta: ${stale.uid}$`),
    ),
    conflicting(
      'precondition on the uid',
      ['DELETE', `${maps}/a`, { preconditions: { uid: 'other' } }],
      `Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (${stale.uid}). The object might have been deleted and then recreated`,
    ),
    conflicting(
      'precondition on the version',
      ['DELETE', `${maps}/a`, { preconditions: { resourceVersion: '1' } }],
      /^Operation cannot be fulfilled on ConfigMap "a": the ResourceVersion in the precondition \(1\) does not match the ResourceVersion in record \(\d+\)\. The object might have been modified$/,
    ),
    { what: 'no such kind', request: ['GET', '/api/v1/nonsense'], code: 404, reason: 'NotFound', message: noResource },
    { what: 'no such subresource', request: ['GET', `${maps}/a/status`], code: 404, reason: 'NotFound', message: noResource },
    { what: 'POST to an object', request: ['POST', `${maps}/a`, {}], code: 405, reason: 'MethodNotAllowed', message: noMethod },
    { what: 'all namespaces deleted', request: ['DELETE', '/api/v1/namespaces'], code: 405, reason: 'MethodNotAllowed', message: noMethod },
  ];
}

/** Bodies that are none, or whose metadata is not good. */
export function refusalsOfBodies(ns: string): Refusal[] {
  const maps = mapsOf(ns);
  return [
    {
      what: 'no name',
      request: ['POST', maps, map({})],
      code: 422,
      reason: 'Invalid',
      message: 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
    },
    invalid(
      'no good name',
      ['POST', maps, map({ name: 'Not_Good' })],
      /^ConfigMap "Not_Good" is invalid: metadata\.name: Invalid value: "Not_Good": a lowercase RFC 1123 subdomain must consist of/,
    ),
    invalid(
      'no good namespace name',
      ['POST', '/api/v1/namespaces', map({ name: 'a.b' })],
      /^Namespace "a\.b" is invalid: metadata\.name: Invalid value: "a\.b": must not contain dots$/,
    ),
    invalid(
      'no good label',
      ['POST', maps, map({ name: 'b', labels: { x: 'not good!' } })],
      /^ConfigMap "b" is invalid: metadata\.labels: Invalid value: "not good!": a valid label must be/,
    ),
    invalid(
      'too much data',
      ['POST', maps, map({ name: 'b' }, { data: { k: 'x'.repeat(1_100_000) } })],
      /^ConfigMap "b" is invalid: \[\]: Too long: may not be more than 1048576 bytes$/,
    ),
    {
      what: 'too large a body',
      request: ['POST', maps, map({ name: 'b' }, { data: { k: 'x'.repeat(3_200_000) } })],
      code: 413,
      reason: 'RequestEntityTooLarge',
      message: 'Request entity too large: limit is 3145728',
    },
    {
      what: 'a version at creation',
      request: ['POST', maps, map({ name: 'b', resourceVersion: '5' })],
      code: 500,
      reason: undefined,
      message: 'resourceVersion should not be set on objects to be created',
    },
    bad(
      'another namespace',
      ['POST', maps, map({ name: 'b', namespace: 'other' })],
      'the namespace of the provided object does not match the namespace sent on the request',
    ),
    bad('another name', ['PUT', `${maps}/a`, map({ name: 'b' })], 'the name of the object (b) does not match the name on the URL (a)'),
    bad(
      'no name in a replacement',
      ['PUT', `${maps}/a`, { data: {} }],
      'the name of the object (a based on URL) was undeterminable: name must be provided',
    ),
    bad(
      'another name in a patch',
      ['PATCH', `${maps}/a`, { metadata: { name: 'b' } }, merge],
      'the name of the object (b) does not match the name on the URL (a)',
    ),
    bad(
      'another kind',
      ['POST', maps, { kind: 'Pod', apiVersion: 'v1', metadata: { name: 'b' } }],
      /^Pod in version "v1" cannot be handled as a ConfigMap/,
    ),
    bad(
      'a number for a text',
      ['POST', maps, map({ name: 'b' }, { data: { k: 1 } })],
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string',
    ),
    bad('no JSON', ['POST', maps, '{"metadata":'], /^the object provided is unrecognized/),
    bad('no object', ['POST', maps, []], /^the object provided is unrecognized/),
    {
      what: 'no such media type',
      request: ['POST', maps, 'a', 'text/csv'],
      code: 415,
      reason: 'UnsupportedMediaType',
      message: /^the body of the request was in an unknown format - accepted media types include: application\/json/,
    },
  ];
}

/** Patches that are none, or do not fit. */
export function refusalsOfPatches(ns: string): Refusal[] {
  const maps = mapsOf(ns);
  return [
    {
      what: 'no such patch',
      request: ['PATCH', `${maps}/a`, {}, 'application/json'],
      code: 415,
      reason: 'UnsupportedMediaType',
      message: '415: Unsupported Media Type',
    },
    {
      what: 'a test that fails',
      request: ['PATCH', `${maps}/a`, [{ op: 'test', path: '/data/k', value: 'no' }], json],
      code: 422,
      reason: 'Invalid',
      message: 'the server rejected our request due to an error in our request',
    },
    {
      what: 'a path that leads nowhere',
      request: ['PATCH', `${maps}/a`, [{ op: 'remove', path: '/data/none' }], json],
      code: 422,
      reason: 'Invalid',
      message: 'the server rejected our request due to an error in our request',
    },
    {
      what: 'no such patch of what is absent',
      request: ['PATCH', `${maps}/none`, {}, 'application/json'],
      code: 415,
      reason: 'UnsupportedMediaType',
      message: '415: Unsupported Media Type',
    },
    bad('a list of operations that is none', ['PATCH', `${maps}/a`, { a: 1 }, json], /^error decoding patch: /),
    invalid(
      'another uid in a patch',
      ['PATCH', `${maps}/a`, { metadata: { uid: 'other' } }, merge],
      /^ConfigMap "a" is invalid: metadata\.uid: Invalid value: "other": field is immutable$/,
    ),
    invalid('a patch to a number', ['PATCH', `${maps}/a`, { data: { k: 5 } }, merge], /^ "" is invalid: patch: Invalid value: /),
  ];
}

/** Selectors, pages and versions that are none. */
export function refusalsOfQueries(ns: string): Refusal[] {
  const [maps, pods] = [mapsOf(ns), podsOf(ns)];
  return [
    bad(
      'an unknown field in a selector',
      ['GET', `${maps}?fieldSelector=spec.foo%3Da`],
      '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
    ),
    bad('an unknown field of a Pod', ['GET', `${pods}?watch=true&fieldSelector=spec.foo%3Da`], 'field label not supported: spec.foo'),
    bad('a field selector that is none', ['GET', `${maps}?fieldSelector=foo`], "invalid selector: 'foo'; can't understand 'foo'"),
    bad('a label selector that is none', ['GET', `${maps}?labelSelector=a+in+b`], /^unable to parse requirement: /),
    bad('a limit that is none', ['GET', `${maps}?limit=x`], 'strconv.ParseInt: parsing "x": invalid syntax'),
    bad('a position that is none', ['GET', `${maps}?limit=1&continue=garbage`], /^invalid continue token: continue key is not valid/),
    bad(
      'a version that is none',
      ['GET', `${maps}?resourceVersion=abc`],
      'invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
    ),
    {
      what: 'a match of nothing',
      request: ['GET', `${maps}?resourceVersionMatch=Exact`],
      code: 422,
      reason: 'Invalid',
      message:
        'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided',
    },
    {
      what: 'a list from the future',
      request: ['GET', `${maps}?resourceVersion=99999999`],
      code: 504,
      reason: 'Timeout',
      message: /^Timeout: Too large resource version: 99999999, current: \d+$/,
      details: { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
    },
    {
      what: 'a watch from no version',
      request: ['GET', `${pods}?watch=true&resourceVersion=abc`],
      code: 500,
      reason: undefined,
      message: 'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
    },
    invalid(
      'initial events without a match',
      ['GET', `${pods}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true`],
      /sendInitialEvents requires setting resourceVersionMatch to NotOlderThan$/,
    ),
    invalid(
      'a match without initial events',
      ['GET', `${pods}?watch=true&resourceVersionMatch=NotOlderThan`],
      /resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided$/,
    ),
  ];
}

/** What each kind asks for. */
export function refusalsOfKinds(ns: string): Refusal[] {
  const [maps, pods, slices] = [mapsOf(ns), podsOf(ns), slicesOf(ns)];
  return [
    {
      what: 'a Pod of nothing',
      request: ['POST', pods, { metadata: { name: 'x' }, spec: {} }],
      ...required('Pod', 'x', 'spec.containers'),
    },
    invalid(
      'a container of nothing',
      ['POST', pods, { metadata: { name: 'x' }, spec: { containers: [{}] } }],
      /^Pod "x" is invalid: \[spec\.containers\[0\]\.name: Required value, spec\.containers\[0\]\.image: Required value\]$/,
    ),
    invalid(
      'a Pod moved to another node',
      ['PATCH', `${pods}/p`, { spec: { nodeName: 'other' } }, merge],
      /^Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than/,
    ),
    {
      what: 'a binding to nothing',
      request: ['POST', `${pods}/p/binding`, { metadata: { name: 'p' } }],
      code: 500,
      reason: undefined,
      message: 'target.name: Required value',
    },
    {
      what: 'a slice of no type',
      request: ['POST', slices, { metadata: { name: 'x' }, endpoints: [] }],
      ...required('EndpointSlice', 'x', 'addressType', 'discovery.k8s.io'),
    },
    invalid(
      'an endpoint without address',
      ['POST', slices, { metadata: { name: 'x' }, addressType: 'IPv4', endpoints: [{}] }],
      /^EndpointSlice\.discovery\.k8s\.io "x" is invalid: endpoints\[0\]\.addresses: Required value: must contain at least 1 address$/,
    ),
    invalid(
      'an address of another family',
      ['POST', slices, { metadata: { name: 'x' }, addressType: 'IPv4', endpoints: [{ addresses: ['fd00::1'] }] }],
      /^EndpointSlice\.discovery\.k8s\.io "x" is invalid: endpoints\[0\]\.addresses: Invalid value: "fd00::1": must be an IPv4 address$/,
    ),
    invalid(
      'an address that is none',
      ['POST', slices, { metadata: { name: 'x' }, addressType: 'IPv4', endpoints: [{ addresses: ['kura-cache-0'] }] }],
      /endpoints\[0\]\.addresses\[0\]: Invalid value: "kura-cache-0": must be a valid IP address, \(e\.g\. 10\.9\.8\.7 or 2001:db8::ffff\)$/,
    ),
    invalid(
      'a key that is none',
      ['POST', maps, map({ name: 'b' }, { data: { 'a/b': '1' } })],
      /^ConfigMap "b" is invalid: data\[a\/b\]: Invalid value: "a\/b": a valid config key must consist of/,
    ),
    invalid(
      'another address type',
      ['PUT', `${slices}/s`, { metadata: { name: 's' }, addressType: 'IPv6', endpoints: [] }],
      /addressType: Invalid value: "IPv6": field is immutable$/,
    ),
    {
      what: 'a Service without ports',
      request: ['POST', `/api/v1/namespaces/${ns}/services`, { metadata: { name: 'x' }, spec: {} }],
      ...required('Service', 'x', 'spec.ports'),
    },
    invalid(
      'an Event about another namespace',
      ['POST', `/api/v1/namespaces/${ns}/events`, { metadata: { name: 'e' }, involvedObject: { namespace: 'other' }, reason: 'R' }],
      /^Event "e" is invalid: involvedObject\.namespace: Invalid value: "other": does not match event\.namespace$/,
    ),
    invalid(
      'a new Event without its time',
      [
        'POST',
        `/apis/events.k8s.io/v1/namespaces/${ns}/events`,
        { metadata: { name: 'e' }, regarding: { namespace: ns }, reason: 'R', type: 'Normal' },
      ],
      /^Event "e" is invalid: eventTime: Required value$/,
    ),
    invalid(
      'a new Event without its reporter',
      [
        'POST',
        `/apis/events.k8s.io/v1/namespaces/${ns}/events`,
        { metadata: { name: 'e' }, regarding: { namespace: ns }, reason: 'R', type: 'Normal', eventTime: '2024-01-01T00:00:00.000000Z' },
      ],
      /^Event "e" is invalid: /,
    ),
  ];
}

function map(metadata: object, rest: object = {}): object {
  return { metadata, ...rest };
}

function invalid(what: string, request: Refusal['request'], message: RegExp): Refusal {
  return { what, request, code: 422, reason: 'Invalid', message };
}

function bad(what: string, request: Refusal['request'], message: string | RegExp): Refusal {
  return { what, request, code: 400, reason: 'BadRequest', message };
}

function conflicting(what: string, request: Refusal['request'], message: string | RegExp): Refusal {
  return { what, request, code: 409, reason: 'Conflict', message };
}

/** A kind of a group is named with it. */
function required(kind: string, name: string, field: string, group?: string): Omit<Refusal, 'what' | 'request'> {
  const inGroup = group === undefined ? {} : { group };
  return {
    code: 422,
    reason: 'Invalid',
    message: `${kind}${group === undefined ? '' : `.${group}`} "${name}" is invalid: ${field}: Required value`,
    details: { name, kind, ...inGroup, causes: [{ reason: 'FieldValueRequired', message: 'Required value', field }] },
  };
}
