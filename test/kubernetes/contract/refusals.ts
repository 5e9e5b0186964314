import test from 'ava';
import { type Cluster, patchTypes } from './cluster.ts';

interface Refusal {
  readonly what: string;
  readonly request: readonly [method: string, path: string, body?: unknown, contentType?: string];
  readonly code: number;
  readonly reason: string;
  /** Whole, or a part where the rest is the implementation's own. */
  readonly message: string | RegExp;
  readonly details?: object;
}

/** What kura and its operators see when a request fails: a Status object with code, reason, message and details. */
export function refusalContract(cluster: () => Cluster): void {
  test.serial('a request that fails returns a Status object with the reason', async (t) => {
    const { ok, call, namespace } = cluster();
    const ns = await namespace(t);
    const maps = `/api/v1/namespaces/${ns}/configmaps`;
    const stale = await ok('POST', maps, { body: map({ name: 'a' }, { k: '1' }) });
    await ok('PUT', `${maps}/a`, { body: map({ name: 'a' }, { k: '2' }) });
    for (const { what, request, code, reason, message, details } of [...missing(ns), ...changed(ns, stale.metadata), ...malformed(ns)]) {
      const [method, path, body, contentType] = request;
      const answer = await call(method, path, { body, ...(contentType === undefined ? {} : { headers: { 'content-type': contentType } }) });
      t.is(answer.status, code, what);
      const status = answer.body;
      t.is(`${status.kind} ${status.apiVersion} ${status.status} ${status.code}`, `Status v1 Failure ${code}`, what);
      t.is(status.reason, reason, what);
      if (typeof message === 'string') t.is(status.message, message, what);
      else t.regex(status.message, message, what);
      if (details !== undefined) t.deepEqual(status.details, details, what);
    }
  });
}

/** The object, its namespace, its kind or the verb does not exist. */
function missing(ns: string): Refusal[] {
  const maps = `/api/v1/namespaces/${ns}/configmaps`;
  const slices = `/apis/discovery.k8s.io/v1/namespaces/${ns}/endpointslices`;
  const absent = { code: 404, reason: 'NotFound', message: 'configmaps "none" not found' };
  const noResource = { code: 404, reason: 'NotFound', message: 'the server could not find the requested resource' };
  return [
    { what: 'absent', request: ['GET', `${maps}/none`], ...absent, details: { name: 'none', kind: 'configmaps' } },
    { what: 'replaced though absent', request: ['PUT', `${maps}/none`, map({ name: 'none' })], ...absent },
    { what: 'patched though absent', request: ['PATCH', `${maps}/none`, {}, patchTypes.merge], ...absent },
    { what: 'deleted though absent', request: ['DELETE', `${maps}/none`], ...absent },
    {
      what: 'absent, of a group',
      request: ['GET', `${slices}/none`],
      code: 404,
      reason: 'NotFound',
      message: 'endpointslices.discovery.k8s.io "none" not found',
      details: { name: 'none', group: 'discovery.k8s.io', kind: 'endpointslices' },
    },
    {
      what: 'in no namespace',
      request: ['POST', '/api/v1/namespaces/none/configmaps', map({ name: 'a' })],
      code: 404,
      reason: 'NotFound',
      message: 'namespaces "none" not found',
      details: { name: 'none', kind: 'namespaces' },
    },
    { what: 'no such kind', request: ['GET', '/api/v1/nonsense'], ...noResource },
    { what: 'no such subresource', request: ['GET', `${maps}/a/status`], ...noResource },
    {
      what: 'POST to an object',
      request: ['POST', `${maps}/a`, {}],
      code: 405,
      reason: 'MethodNotAllowed',
      message: 'the server does not allow this method on the requested resource',
    },
  ];
}

/** The object exists already, or is not the one that the client means. */
function changed(ns: string, stale: { readonly resourceVersion: string; readonly uid: string }): Refusal[] {
  const maps = `/api/v1/namespaces/${ns}/configmaps`;
  const { resourceVersion, uid } = stale;
  const modified = {
    code: 409,
    reason: 'Conflict',
    message:
      'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again',
    details: { name: 'a', kind: 'configmaps' },
  };
  return [
    {
      what: 'exists already',
      request: ['POST', maps, map({ name: 'a' })],
      code: 409,
      reason: 'AlreadyExists',
      message: 'configmaps "a" already exists',
      details: { name: 'a', kind: 'configmaps' },
    },
    { what: 'stale version', request: ['PUT', `${maps}/a`, map({ name: 'a', resourceVersion }, { k: '3' })], ...modified },
    {
      what: 'stale version in a patch',
      request: ['PATCH', `${maps}/a`, { metadata: { resourceVersion }, data: { k: '3' } }, patchTypes.merge],
      ...modified,
    },
    {
      what: 'another uid',
      request: ['PUT', `${maps}/a`, map({ name: 'a', uid: 'other' })],
      code: 409,
      reason: 'Conflict',
      message: new RegExp(`Precondition failed: UID in precondition: other, UID in object meta: ${uid}$`),
    },
    {
      what: 'another uid in a deletion',
      request: ['DELETE', `${maps}/a`, { preconditions: { uid: 'other' } }],
      code: 409,
      reason: 'Conflict',
      message: /^Operation cannot be fulfilled on /,
    },
  ];
}

/** The request itself is wrong. */
function malformed(ns: string): Refusal[] {
  const maps = `/api/v1/namespaces/${ns}/configmaps`;
  const invalid = { code: 422, reason: 'Invalid' };
  const bad = { code: 400, reason: 'BadRequest' };
  const unsupported = { code: 415, reason: 'UnsupportedMediaType' };
  const tooMuch = map({ name: 'b' }, { k: 'x'.repeat(1_100_000) });
  return [
    {
      what: 'no name',
      request: ['POST', maps, map({})],
      ...invalid,
      message: 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required',
    },
    {
      what: 'a bad name',
      request: ['POST', maps, map({ name: 'Not_Good' })],
      ...invalid,
      message:
        /^ConfigMap "Not_Good" is invalid: metadata\.name: Invalid value: "Not_Good": a lowercase RFC 1123 subdomain must consist of/,
    },
    { what: 'too much data', request: ['POST', maps, tooMuch], ...invalid, message: /may not be more than 1048576 bytes$/ },
    {
      what: 'a bad key',
      request: ['POST', maps, map({ name: 'b' }, { 'a/b': '1' })],
      ...invalid,
      message: /^ConfigMap "b" is invalid: data\[a\/b\]: Invalid value: "a\/b": a valid config key must consist of/,
    },
    {
      what: 'a patch to a number',
      request: ['PATCH', `${maps}/a`, { data: { k: 5 } }, patchTypes.merge],
      ...invalid,
      message: /^ "" is invalid: patch: Invalid value: /,
    },
    {
      what: 'too large a body',
      request: ['POST', maps, map({ name: 'b' }, { k: 'x'.repeat(3_200_000) })],
      code: 413,
      reason: 'RequestEntityTooLarge',
      message: 'Request entity too large: limit is 3145728',
    },
    {
      what: 'another namespace',
      request: ['POST', maps, map({ name: 'b', namespace: 'other' })],
      ...bad,
      message: 'the namespace of the provided object does not match the namespace sent on the request',
    },
    {
      what: 'another name',
      request: ['PUT', `${maps}/a`, map({ name: 'b' })],
      ...bad,
      message: 'the name of the object (b) does not match the name on the URL (a)',
    },
    {
      what: 'a number for a text',
      request: ['POST', maps, map({ name: 'b' }, { k: 1 })],
      ...bad,
      message:
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string',
    },
    { what: 'no JSON', request: ['POST', maps, '{"metadata":'], ...bad, message: /^the object provided is unrecognized/ },
    { what: 'no such patch', request: ['PATCH', `${maps}/a`, {}, 'application/json'], ...unsupported, message: /./ },
    { what: 'no such media type', request: ['POST', maps, 'a', 'text/csv'], ...unsupported, message: /application\/json/ },
    {
      what: 'an unknown field in a selector',
      request: ['GET', `${maps}?fieldSelector=spec.foo%3Da`],
      ...bad,
      message: '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
    },
    { what: 'a bad label selector', request: ['GET', `${maps}?labelSelector=a+in+b`], ...bad, message: /^unable to parse requirement: / },
    {
      what: 'a bad position',
      request: ['GET', `${maps}?limit=1&continue=garbage`],
      ...bad,
      message: /^invalid continue token: continue key is not valid/,
    },
  ];
}

function map(metadata: object, data: object = {}): object {
  return { metadata, data };
}
