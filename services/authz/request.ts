/** Pure: what a request is about, by its method and its target. */
import { type Key, type PrefixService, parsePrefixTarget, parseTarget } from '../shared/key.ts';
import { type Method, methods, type Verb } from './policy/document.ts';

export interface ObjectRequest {
  readonly kind: 'object';
  readonly key: Key;
  readonly verb: Method;
  /** Whether a miss may be fetched from the origin of the key. */
  readonly isThrough: boolean;
  /** Set for a method of WebDAV, which authz answers itself. */
  readonly folder: 'absent' | 'made' | undefined;
}

/** A request of a service that works on all keys under a prefix. */
export interface PrefixRequest {
  readonly kind: 'prefix';
  readonly service: PrefixService;
  readonly prefix: string;
  readonly method: string;
  /** The rights over the whole prefix that it needs. */
  readonly verbs: readonly Verb[];
}

type UnusableRequest =
  | { readonly kind: 'no-such-path' }
  | { readonly kind: 'bad-key' }
  | { readonly kind: 'bad-prefix' }
  | { readonly kind: 'bad-method'; readonly allowed: readonly string[] };

export type AuthorizedRequest = ObjectRequest | PrefixRequest | UnusableRequest;

/**
 * sccache sends PROPFIND and MKCOL before it writes. kura has no folders, so authz returns a fixed response. These requests are authorized
 * as HEAD or PUT on the same key, so the response reveals nothing.
 */
const folderMethods: Readonly<Record<string, { readonly as: Method; readonly answer: 'absent' | 'made' }>> = {
  PROPFIND: { as: 'HEAD', answer: 'absent' },
  MKCOL: { as: 'PUT', answer: 'made' },
};

/** To follow or to stop a job needs the rights that start it. */
const prefixMethods: Readonly<Record<PrefixService, Readonly<Record<string, readonly Verb[]>>>> = {
  prefetch: { POST: ['GET', 'FILL'], GET: ['GET', 'FILL'], DELETE: ['GET', 'FILL'] },
  datasets: { GET: ['LIST'], DELETE: ['DELETE'] },
};

export function readRequest(method: string, target: string): AuthorizedRequest {
  const onPrefix = parsePrefixTarget(target);
  if (onPrefix.kind === 'bad-prefix') return onPrefix;
  if (onPrefix.kind === 'prefix') return readPrefixRequest(method, onPrefix);
  const parsed = parseTarget(target);
  if (parsed.kind === 'other-path') return { kind: 'no-such-path' };
  if (parsed.kind === 'bad-key') return parsed;
  const folder = Object.hasOwn(folderMethods, method) ? folderMethods[method] : undefined;
  const verb = folder?.as ?? methods.find((candidate) => candidate === method);
  if (verb === undefined) return { kind: 'bad-method', allowed: methods };
  return { kind: 'object', key: parsed.key, verb, isThrough: parsed.route === 'through', folder: folder?.answer };
}

function readPrefixRequest(method: string, { prefix, service }: { prefix: string; service: PrefixService }): AuthorizedRequest {
  const byMethod = prefixMethods[service];
  const verbs = Object.hasOwn(byMethod, method) ? byMethod[method] : undefined;
  if (verbs === undefined) return { kind: 'bad-method', allowed: Object.keys(byMethod) };
  return { kind: 'prefix', service, prefix, method, verbs };
}

/** Each start of a prefetch job and each removal of a prefix is in the audit log. */
export function isLoggedAlways(request: AuthorizedRequest): boolean {
  return request.kind === 'prefix' && request.method === (request.service === 'prefetch' ? 'POST' : 'DELETE');
}
