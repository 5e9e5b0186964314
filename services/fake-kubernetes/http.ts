/** The HTTP edge: routes requests by path and verb, and turns failures into `Status` objects. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from '../shared/log.ts';
import { type CollectionOptions, CollectionVerbs } from './collection.ts';
import { discoveryDocument } from './discovery.ts';
import { type Exchange, readObject, sendJson } from './exchange.ts';
import { parseResourcePath } from './resources.ts';
import { handleSingle, type ObjectPath } from './single.ts';
import { ApiError, badRequest, methodNotAllowed, notServed, pathNotFound } from './status.ts';
import { issuer, type TokenRequest } from './token-request.ts';
import type { Tokens } from './tokens.ts';

interface ApiOptions extends CollectionOptions {
  readonly tokens: Tokens;
  readonly log: Logger;
}

/** These paths need no credential, as in the real API. */
const healthPages = new Set(['/readyz', '/livez', '/healthz']);
const openPages = new Set([...healthPages, '/version']);
const reviews = '/apis/authentication.k8s.io/v1/tokenreviews';

export class KubernetesApi {
  readonly #options: ApiOptions;
  readonly #collections: CollectionVerbs;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#collections = new CollectionVerbs(options);
  }

  /** The request listener of a server. */
  readonly handle = (message: IncomingMessage, response: ServerResponse): void => {
    const [path = '/', search = ''] = (message.url ?? '/').split('?', 2);
    const exchange = { method: message.method ?? 'GET', path, query: new URLSearchParams(search), message, response };
    this.#route(exchange).catch((error: unknown) => this.#fail(exchange, error));
  };

  async #route(exchange: Exchange): Promise<void> {
    const { method, path, query, response, message } = exchange;
    const { tokens } = this.#options;
    if (!openPages.has(path)) await tokens.authenticate(message.headers.authorization);
    if (healthPages.has(path)) {
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok');
      return;
    }
    const document = discoveryDocument(path) ?? this.#issuerDocument(exchange);
    if (document !== undefined) {
      if (method !== 'GET') throw methodNotAllowed();
      return sendJson(response, 200, document, path === '/openid/v1/jwks' ? 'application/jwk-set+json' : undefined);
    }
    // The real API would respond as usual but store nothing.
    if (query.get('dryRun')) throw notServed('dryRun');
    if (path === reviews) return await this.#review(exchange);
    const at = parseResourcePath(path);
    if (at === undefined) throw pathNotFound();
    if (at.name === undefined) return await this.#collections.handle(exchange, at);
    const single = { ...at, name: at.name };
    if (at.subresource === 'token' && at.resource.plural === 'serviceaccounts') return await this.#requestToken(exchange, single);
    return await handleSingle(this.#options, exchange, single);
  }

  #issuerDocument({ path, message }: Exchange): object | undefined {
    if (path === '/openid/v1/jwks') return this.#options.tokens.jwks;
    if (path !== '/.well-known/openid-configuration') return undefined;
    return {
      issuer,
      jwks_uri: `https://${message.headers.host}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
    };
  }

  async #review(exchange: Exchange): Promise<void> {
    if (exchange.method !== 'POST') throw methodNotAllowed();
    const { metadata = {}, spec = {} } = await readObject(exchange, 'TokenReview');
    const { token, audiences } = spec;
    if (typeof token !== 'string' || token === '') throw badRequest('token is required for TokenReview in authentication');
    const asked = Array.isArray(audiences) ? audiences.map(String) : [];
    const status = await this.#options.tokens.review(token, asked);
    const shownSpec = { token, ...(asked.length > 0 ? { audiences: asked } : {}) };
    const review = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata, spec: shownSpec, status };
    sendJson(exchange.response, 201, review);
  }

  async #requestToken(exchange: Exchange, at: ObjectPath): Promise<void> {
    if (exchange.method !== 'POST') throw methodNotAllowed();
    const request = (await readObject(exchange, 'TokenRequest')) as TokenRequest;
    const { store, tokens } = this.#options;
    sendJson(exchange.response, 201, await tokens.issue(store.get(at.resource, at), request));
  }

  #fail({ method, path, message, response }: Exchange, error: unknown): void {
    // The client closed the connection before its request was complete.
    if (message.destroyed && !message.complete) return;
    const known = error instanceof URIError ? badRequest('bad escape in the path') : error;
    if (!(known instanceof ApiError)) this.#options.log.error({ err: error, method, path }, 'unexpected fault');
    if (response.headersSent) {
      response.destroy();
      return;
    }
    const failure = known instanceof ApiError ? known : new ApiError({ code: 500, reason: 'InternalError', message: 'unexpected fault' });
    // The rest of the body is not read, so the connection cannot serve another request.
    if (!message.complete) response.setHeader('connection', 'close');
    sendJson(response, failure.code, failure.toStatus());
  }
}
