/** Pure: one page of a list. All pages of a list show the same version, as far back as the history reaches. */
import { isFields, keyOf, type StoredObject } from './object.ts';
import type { ResourcePath } from './resources.ts';
import { type Predicate, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import { badRequest, notServed } from './status.ts';
import type { ObjectStore } from './store.ts';

interface Page {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string; readonly remainingItemCount?: number };
  readonly objects: readonly StoredObject[];
}

/** Throws ApiError: 400 for an invalid query, 405 for an unsupported one, 410 for a position that is too old. */
export function listPage(store: ObjectStore, at: ResourcePath, query: URLSearchParams): Page {
  const matches = selection(at, query);
  const limit = readInteger(query, 'limit') ?? 0;
  const asked = readVersion(query);
  if (asked !== undefined && asked > store.version) throw notServed('a list at a future resourceVersion');
  const token = query.get('continue');
  const position = token ? readPosition(token) : undefined;
  const all = position === undefined ? store.list(at.resource) : store.listAt(at.resource, position.version);
  const rest = all.filter((object) => matches(object) && (position === undefined || keyOf(object.metadata) > position.after));
  const version = position?.version ?? store.version;
  const resourceVersion = String(version);
  if (limit === 0 || rest.length <= limit) return { metadata: { resourceVersion }, objects: rest };
  const objects = rest.slice(0, limit);
  const after = keyOf((objects.at(-1) as StoredObject).metadata);
  // The real API does not count the rest of a list with a selector.
  const isCounted = !query.get('labelSelector') && !query.get('fieldSelector');
  const remaining = isCounted ? { remainingItemCount: rest.length - limit } : {};
  return { metadata: { resourceVersion, continue: writePosition({ version, after }), ...remaining }, objects };
}

/** The selectors of a request. Throws ApiError (400). */
export function selection({ resource, namespace }: ResourcePath, query: URLSearchParams): Predicate {
  const fields = parseFieldSelector(resource, query.get('fieldSelector') ?? '');
  const labels = parseLabelSelector(query.get('labelSelector') ?? '');
  return (object) => (namespace === undefined || object.metadata.namespace === namespace) && fields(object) && labels(object);
}

/** The `resourceVersion` of a list or watch; undefined for none and for 0, which both mean any version. Throws ApiError (400 or 405). */
export function readVersion(query: URLSearchParams): number | undefined {
  for (const option of ['resourceVersionMatch', 'sendInitialEvents']) if (query.get(option)) throw notServed(option);
  return readInteger(query, 'resourceVersion') || undefined;
}

/** Undefined when the query has no such parameter. Throws ApiError (400). */
export function readInteger(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null || value === '') return undefined;
  if (!/^\d{1,15}$/.test(value)) throw badRequest(`${name}: strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
  return Number(value);
}

interface Position {
  readonly version: number;
  /** The key of the last object that the client has received. */
  readonly after: string;
}

function writePosition({ version, after }: Position): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: version, start: after })).toString('base64url');
}

function readPosition(text: string): Position {
  try {
    const position = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown;
    if (isFields(position) && typeof position.rv === 'number' && typeof position.start === 'string') {
      return { version: position.rv, after: position.start };
    }
  } catch {
    // Invalid JSON gets the same error as a missing field.
  }
  throw badRequest('invalid continue token: continue key is not valid');
}
