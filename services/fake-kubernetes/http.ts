/** The HTTP side of the stand-in: which path and verb goes where, and failures as `Status` objects. */
import type { RequestListener } from 'node:http';
import type { Logger } from '../shared/log.ts';
import type { ClusterObjects } from './cluster-objects.ts';
import { type CollectionOptions, createCollection } from './collection.ts';
import { discoveryPage } from './discovery.ts';
import { answer, type Exchange, readObject } from './exchange.ts';
import { isFields } from './object.ts';
import { parseResourcePath } from './resources.ts';
import { createSingle, type ObjectPath } from './single.ts';
import { ApiError, badRequest, methodNotAllowed, pathNotFound, success } from './status.ts';
import { issuer } from './token-claims.ts';
import type { TokenRequest } from './token-request.ts';
import type { Tokens } from './tokens.ts';

interface ApiOptions extends CollectionOptions {
  readonly cluster: ClusterObjects;
  readonly tokens: Tokens;
  readonly log: Logger;
}

/** Pages that tell nothing: the real API shows them to everybody too. */
const openPages = new Set(['/readyz', '/livez', '/healthz', '/version']);
const reviews = '/apis/authentication.k8s.io/v1/tokenreviews';

/** Answers every request. */
export function createApi(options: ApiOptions): RequestListener {
  const { store, cluster, tokens, log } = options;
  const collection = createCollection(options);
  const single = createSingle(options);

  return (message, response) => {
    const [path = '/', search = ''] = (message.url ?? '/').split('?', 2);
    const exchange = { method: message.method ?? 'GET', path, query: new URLSearchParams(search), message, response };
    route(exchange).catch((error: unknown) => {
      // The client went away before its request was whole.
      if (message.destroyed && !message.complete) return;
      const known = error instanceof ApiError ? error : error instanceof URIError ? badRequest('bad escape in the path') : undefined;
      if (known === undefined) log.error({ err: error, method: exchange.method, path }, 'unexpected fault');
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const failure = known ?? new ApiError({ code: 500, reason: 'InternalError', message: 'unexpected fault' });
      // A body that nobody reads any more ends with its connection.
      if (!message.complete) response.setHeader('connection', 'close');
      answer(response, failure.code, failure.toStatus());
    });
  };

  async function route(exchange: Exchange): Promise<void> {
    const { path, response, message } = exchange;
    if (!openPages.has(path)) await tokens.authenticate(message.headers.authorization);
    const page = discoveryPage(path) ?? issuerPage(exchange);
    if (page !== undefined) {
      if (exchange.method !== 'GET') throw methodNotAllowed();
      return answer(response, 200, page, path === '/openid/v1/jwks' ? 'application/jwk-set+json' : undefined);
    }
    if (openPages.has(path)) {
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok');
      return;
    }
    if (path === reviews) return await review(exchange);
    const at = parseResourcePath(path);
    if (at === undefined) throw pathNotFound();
    if (at.name === undefined) return await collection(exchange, at);
    return await named(exchange, { ...at, name: at.name });
  }

  async function named(exchange: Exchange, at: ObjectPath): Promise<void> {
    const { resource, subresource } = at;
    if (subresource === 'token' && resource.plural === 'serviceaccounts') return await requestToken(exchange, at);
    if (subresource === 'binding' && resource.plural === 'pods') return await bind(exchange, at);
    return await single(exchange, at);
  }

  function issuerPage({ path, message }: Exchange): object | undefined {
    if (path === '/openid/v1/jwks') return tokens.jwks;
    if (path !== '/.well-known/openid-configuration') return undefined;
    return {
      issuer,
      jwks_uri: `https://${message.headers.host}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
    };
  }

  async function review(exchange: Exchange): Promise<void> {
    requirePost(exchange);
    const { metadata = {}, spec } = await readObject(exchange, 'TokenReview');
    const { token, audiences } = (spec ?? {}) as { token?: unknown; audiences?: unknown };
    if (typeof token !== 'string' || token === '') throw badRequest('token is required for TokenReview in authentication');
    const asked = Array.isArray(audiences) ? audiences.map(String) : [];
    const status = await tokens.review(token, asked);
    const shownSpec = { token, ...(asked.length > 0 ? { audiences: asked } : {}) };
    answer(exchange.response, 201, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata, spec: shownSpec, status });
  }

  async function requestToken(exchange: Exchange, at: ObjectPath): Promise<void> {
    requirePost(exchange);
    const request = (await readObject(exchange, 'TokenRequest')) as TokenRequest;
    answer(exchange.response, 201, await tokens.issue(store.get(at.resource, at), request));
  }

  async function bind(exchange: Exchange, at: ObjectPath): Promise<void> {
    requirePost(exchange);
    const { target } = await readObject(exchange, 'Binding');
    const pod = store.get(at.resource, at);
    if (!isFields(target) || typeof target.name !== 'string' || target.name === '') {
      throw new ApiError({ code: 500, message: 'target.name: Required value' });
    }
    cluster.bind(at.resource, pod, target.name);
    answer(exchange.response, 201, success(undefined, 201));
  }
}

function requirePost({ method }: Exchange): void {
  if (method !== 'POST') throw methodNotAllowed();
}
