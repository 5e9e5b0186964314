/** The HTTP side of the stand-in: paths, verbs, bodies and status codes of the Kubernetes API. */
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Logger } from '../../shared/log.ts';
import { authenticate } from './authentication.ts';
import { mergePatch } from './merge-patch.ts';
import { deletionOf } from './pod-deletion.ts';
import { apiResourceList, apiVersionOf, parseResourcePath, type ResourcePath, resources } from './resources.ts';
import { type Predicate, parseFieldSelector, parseLabelSelector } from './selectors.ts';
import { issuer, type ServiceAccountTokens, type TokenRequestSpec } from './service-account-tokens.ts';
import { ApiError, badRequest, invalid, methodNotAllowed, notFound, pathNotFound, tooLargeResourceVersion } from './status.ts';
import type { ObjectInput, ObjectStore, StoredObject } from './store.ts';
import { streamWatch } from './watch.ts';

/** The real API's limit of a request body. */
const longestBodyBytes = 3 * 2 ** 20;
const defaultWatchMs = 30 * 60_000;
const namespaces = resources.find(({ plural }) => plural === 'namespaces') as (typeof resources)[number];

export interface ApiOptions {
  readonly store: ObjectStore;
  readonly tokens: ServiceAccountTokens;
  readonly adminToken: string;
  readonly bookmarkMs: number;
  readonly watches: number;
  readonly log: Logger;
}

interface Request {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly message: IncomingMessage;
  readonly response: ServerResponse;
}

/** Answers every request; failures as `Status` objects. */
export function createApi(options: ApiOptions): RequestListener {
  const { store, tokens, log } = options;
  let openWatches = 0;

  return (message, response) => {
    const url = new URL(message.url ?? '/', 'https://kubernetes');
    const request = { method: message.method ?? 'GET', path: url.pathname, query: url.searchParams, message, response };
    route(request).catch((error: unknown) => {
      const known = error instanceof ApiError ? error : undefined;
      if (known === undefined) log.error({ err: error, method: request.method, path: request.path }, 'unexpected fault');
      if (response.headersSent) response.destroy();
      else
        answer(
          response,
          known?.code ?? 500,
          (known ?? new ApiError({ code: 500, reason: 'InternalError', message: 'unexpected fault' })).toStatus(),
        );
    });
  };

  async function route(request: Request): Promise<void> {
    const { path, response, message } = request;
    if (path === '/readyz' || path === '/livez' || path === '/healthz') {
      response.writeHead(200, { 'content-type': 'text/plain' }).end('ok');
      return;
    }
    await authenticate(message.headers.authorization, options);
    const fixed = fixedPage(path);
    if (fixed !== undefined) return answer(response, 200, fixed);
    if (path === '/apis/authentication.k8s.io/v1/tokenreviews') return await reviewToken(request);
    const resourcePath = parseResourcePath(path);
    if (resourcePath === undefined) throw pathNotFound();
    const { name, subresource, resource } = resourcePath;
    if (subresource === 'token' && resource.plural === 'serviceaccounts') return await requestToken(request, resourcePath);
    if (subresource === 'binding' && resource.plural === 'pods') return await bindPod(request, resourcePath);
    if (subresource !== undefined && subresource !== 'status') throw pathNotFound();
    if (name === undefined) return await collection(request, resourcePath);
    return await single(request, { ...resourcePath, name });
  }

  function fixedPage(path: string): object | undefined {
    const groups = [...new Set(resources.map(({ group }) => group))].filter((group) => group !== '');
    const version = (group: string) => ({ groupVersion: `${group}/v1`, version: 'v1' });
    if (path === '/version') return { major: '1', minor: '36', gitVersion: 'v1.36.0+kura-local' };
    if (path === '/openid/v1/jwks') return tokens.jwks;
    if (path === '/.well-known/openid-configuration') {
      return {
        issuer,
        jwks_uri: `${issuer}/openid/v1/jwks`,
        response_types_supported: ['id_token'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
      };
    }
    if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
    if (path === '/apis') {
      const list = groups.map((group) => ({ name: group, versions: [version(group)], preferredVersion: version(group) }));
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: list };
    }
    if (path === '/api/v1') return apiResourceList('');
    const group = groups.find((candidate) => path === `/apis/${candidate}/v1`);
    return group === undefined ? undefined : apiResourceList(group);
  }

  async function collection(request: Request, at: ResourcePath): Promise<void> {
    const { method, query, response } = request;
    if (method === 'POST') {
      if (at.resource.namespaced) requireNamespace(at.namespace);
      const object = store.create(at.resource, at.namespace, await readObject(request));
      return answer(response, 201, whole(at, object));
    }
    if (method === 'DELETE') {
      for (const object of store.list(at.resource, at.namespace).filter(selection(at, query))) remove(at, object, 0);
      return answer(response, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' });
    }
    if (method !== 'GET') throw methodNotAllowed();
    const watch = query.get('watch');
    if (watch === 'true' || watch === '1') return openWatch(request, at);
    const asked = Number(query.get('resourceVersion') ?? 0);
    if (asked > store.version && query.get('resourceVersionMatch') !== 'Exact')
      throw tooLargeResourceVersion({ asked, current: store.version });
    const show = shownAs(request, at);
    const items = store.list(at.resource, at.namespace).filter(selection(at, query));
    const metadata = { resourceVersion: String(store.version) };
    if (show.metadataOnly)
      return answer(response, 200, {
        kind: 'PartialObjectMetadataList',
        apiVersion: 'meta.k8s.io/v1',
        metadata,
        items: items.map(show.object),
      });
    return answer(response, 200, { kind: `${at.resource.kind}List`, apiVersion: apiVersionOf(at.resource), metadata, items });
  }

  function openWatch(request: Request, at: ResourcePath): void {
    const { query, response } = request;
    if (openWatches >= options.watches)
      throw new ApiError({ code: 429, reason: 'TooManyRequests', message: `more than ${options.watches} watches` });
    const version = query.get('resourceVersion');
    const sendsInitial = query.get('sendInitialEvents') === 'true';
    if (sendsInitial && query.get('resourceVersionMatch') !== 'NotOlderThan') {
      throw badRequest('sendInitialEvents is forbidden for watch unless resourceVersionMatch=NotOlderThan is set');
    }
    const startsFromAll = sendsInitial || version === null || version === '' || version === '0';
    openWatches++;
    response.on('close', () => openWatches--);
    streamWatch(response, {
      store,
      resource: at.resource,
      matches: selection(at, query),
      since: startsFromAll ? undefined : Number(version),
      bookmarks: query.get('allowWatchBookmarks') === 'true',
      bookmarkMs: options.bookmarkMs,
      marksInitialEnd: sendsInitial,
      timeoutMs: query.has('timeoutSeconds') ? Number(query.get('timeoutSeconds')) * 1000 : defaultWatchMs,
      show: shownAs(request, at).object,
    });
  }

  async function single(request: Request, at: ResourcePath & { name: string }): Promise<void> {
    const { method, query, response } = request;
    const present = store.get(at.resource, at);
    switch (method) {
      case 'GET':
        return answer(response, 200, shownAs(request, at).object(present));
      case 'PUT':
        return answer(response, 200, whole(at, store.update(at.resource, present, guarded(at, present, await readObject(request)))));
      case 'PATCH': {
        const type = request.message.headers['content-type'] ?? '';
        // Strategic merge differs in lists only; the stand-in's kinds are patched whole lists at a time (README).
        if (!/^application\/(strategic-)?merge-patch\+json/.test(type)) {
          throw new ApiError({
            code: 415,
            reason: 'UnsupportedMediaType',
            message: `the body of the request was in an unknown format: ${type}`,
          });
        }
        const patched = mergePatch(present, await readObject(request)) as ObjectInput;
        return answer(response, 200, whole(at, store.update(at.resource, present, guarded(at, present, patched))));
      }
      case 'DELETE': {
        const body = (await readBody(request)) as { gracePeriodSeconds?: number; preconditions?: { uid?: string } } | undefined;
        const asked = query.get('gracePeriodSeconds') ?? body?.gracePeriodSeconds;
        const wanted = body?.preconditions?.uid;
        if (wanted !== undefined && wanted !== present.metadata.uid) {
          const message = `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${present.metadata.uid}`;
          throw new ApiError({ code: 409, reason: 'Conflict', message });
        }
        const left = remove(at, present, asked === undefined || asked === null ? undefined : Number(asked));
        return answer(response, 200, whole(at, left));
      }
      default:
        throw methodNotAllowed();
    }
  }

  function remove(at: ResourcePath, object: StoredObject, graceSeconds: number | undefined): StoredObject {
    const deletion = deletionOf({ object, isPod: at.resource.plural === 'pods', graceSeconds, now: new Date() });
    const marked = deletion.marked === undefined ? object : store.update(at.resource, object, deletion.marked);
    if (deletion.kind === 'mark') return marked;
    if (at.resource.plural === 'namespaces') {
      for (const resource of resources.filter(({ namespaced }) => namespaced)) {
        for (const inside of store.list(resource, object.metadata.name)) store.remove(resource, inside);
      }
    }
    return store.remove(at.resource, marked);
  }

  /** A plain update leaves the status alone and an update of the status everything else, where the kind has a status of its own. */
  function guarded(at: ResourcePath, present: StoredObject, input: ObjectInput): ObjectInput {
    if (at.subresource === 'status')
      return {
        ...present,
        metadata: { ...present.metadata, resourceVersion: input.metadata?.resourceVersion ?? present.metadata.resourceVersion },
        status: input.status,
      };
    if (at.resource.plural !== 'pods') return input;
    const { status: _status, ...rest } = input;
    const { deletionTimestamp, deletionGracePeriodSeconds } = present.metadata;
    const deletion = deletionTimestamp === undefined ? {} : { deletionTimestamp, deletionGracePeriodSeconds };
    return {
      ...rest,
      metadata: { ...rest.metadata, ...deletion },
      ...(present.status === undefined ? {} : { status: present.status }),
    } as ObjectInput;
  }

  async function reviewToken(request: Request): Promise<void> {
    if (request.method !== 'POST') throw methodNotAllowed();
    const { spec = {} } = (await readObject(request)) as { spec?: { token?: string; audiences?: string[] } };
    if (!spec.token) throw badRequest('token is required for TokenReview in authentication');
    const status = await tokens.review(spec.token, spec.audiences ?? []);
    answer(request.response, 201, {
      kind: 'TokenReview',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { creationTimestamp: null },
      spec,
      status,
    });
  }

  async function requestToken(request: Request, at: ResourcePath): Promise<void> {
    if (request.method !== 'POST') throw methodNotAllowed();
    const account = store.get(at.resource, { namespace: at.namespace, name: at.name ?? '' });
    const { spec = {} } = (await readObject(request)) as { spec?: TokenRequestSpec };
    const { spec: granted, ...status } = await tokens.issue(account, spec);
    answer(request.response, 201, {
      kind: 'TokenRequest',
      apiVersion: 'authentication.k8s.io/v1',
      metadata: { name: at.name, namespace: at.namespace, creationTimestamp: new Date().toISOString() },
      spec: granted,
      status,
    });
  }

  async function bindPod(request: Request, at: ResourcePath): Promise<void> {
    if (request.method !== 'POST') throw methodNotAllowed();
    const pod = store.get(at.resource, { namespace: at.namespace, name: at.name ?? '' });
    const { target } = (await readObject(request)) as { target?: { name?: string } };
    if (target?.name === undefined) throw invalid(at.resource, pod.metadata.name, 'target.name: Required value');
    store.update(at.resource, pod, { ...pod, spec: { ...pod.spec, nodeName: target.name } });
    answer(request.response, 201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
  }

  function requireNamespace(name: string | undefined): void {
    if (name === undefined) throw badRequest('an empty namespace may not be set during creation');
    if (store.find(namespaces, { namespace: undefined, name }) === undefined) throw notFound(namespaces, name);
  }
}

/** Which objects of a collection (or the one of that name) the client asked for. */
function selection({ namespace, name }: ResourcePath, query: URLSearchParams): Predicate {
  const fields = parseFieldSelector(query.get('fieldSelector') ?? '');
  const labels = parseLabelSelector(query.get('labelSelector') ?? '');
  return (object) =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    (name === undefined || object.metadata.name === name) &&
    fields(object) &&
    labels(object);
}

function whole({ resource }: ResourcePath, object: StoredObject): object {
  return { kind: resource.kind, apiVersion: apiVersionOf(resource), ...object };
}

function shownAs(
  { message }: Request,
  at: ResourcePath,
): { readonly metadataOnly: boolean; readonly object: (object: StoredObject) => object } {
  const metadataOnly = /as=PartialObjectMetadata(List)?;g=meta\.k8s\.io;v=v1/.test(message.headers.accept ?? '');
  if (!metadataOnly) return { metadataOnly, object: (object) => whole(at, object) };
  return { metadataOnly, object: ({ metadata }) => ({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata }) };
}

async function readObject(request: Request): Promise<ObjectInput> {
  const body = await readBody(request);
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw badRequest('the object provided is unrecognized (must be of type JSON object)');
  return body as ObjectInput;
}

async function readBody({ message }: Request): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > longestBodyBytes)
      throw new ApiError({ code: 413, reason: 'RequestEntityTooLarge', message: `Request entity too large: limit is ${longestBodyBytes}` });
    chunks.push(chunk);
  }
  if (length === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as unknown;
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${(error as Error).message}`);
  }
}

function answer(response: ServerResponse, code: number, body: object): void {
  response.writeHead(code, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
}
