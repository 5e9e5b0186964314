/** The metrics port of a process: `/livez`, `/readyz` and `/metrics`. */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { ListenAddress } from './environment.ts';
import { type Listening, listen } from './listen.ts';

export type Route = (request: IncomingMessage, response: ServerResponse) => void;

interface MetricsServerOptions {
  readonly address: ListenAddress;
  readonly registry: Registry;
  /** Undefined while the service may get traffic. Otherwise the reason in one line, which `/readyz` returns. */
  readonly notReady: () => string | undefined;
  /** Further read-only pages by exact path. */
  readonly routes?: Readonly<Record<string, Route>>;
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

/** A registry that includes the metrics of the process, and its version. */
export function createRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({ name: 'kura_build_info', help: 'Version of the service.', labelNames: ['version'], registers: [registry] }).set(
    { version },
    1,
  );
  return registry;
}

/** Starts the metrics server. Rejects when the address is not available. */
export function startMetricsServer({ address, registry, notReady, routes = {} }: MetricsServerOptions): Promise<Listening> {
  const pages: Readonly<Record<string, Route>> = {
    '/livez': (_request, response) => sendText(response, 200, 'ok\n'),
    '/readyz': (_request, response) => {
      const reason = notReady();
      sendText(response, reason === undefined ? 200 : 503, `${reason ?? 'ok'}\n`);
    },
    '/metrics': (_request, response) => {
      registry.metrics().then(
        (body) => response.writeHead(200, { 'content-type': registry.contentType }).end(body),
        (error: Error) => sendText(response, 500, `${error.message}\n`),
      );
    },
    ...routes,
  };
  return startPages({ address, pages });
}

/** Starts a server of read-only pages by exact path. Rejects when the address is not available. */
export function startPages({ address, pages }: { address: ListenAddress; pages: Readonly<Record<string, Route>> }): Promise<Listening> {
  const server = createServer((request, response) => {
    const page = pages[(request.url ?? '').split('?', 1)[0] as string];
    if (!isTrustedHost(request.headers.host))
      sendText(response, 421, 'use an IP address, localhost, or the name of a Kubernetes Service\n');
    else if (page === undefined) sendText(response, 404, 'not found\n');
    else if (request.method !== 'GET' && request.method !== 'HEAD') sendText(response, 405, 'GET only\n', { allow: 'GET, HEAD' });
    else page(request, response);
  });
  return listen(server, address);
}

/**
 * A page in a browser can point a name of its own at this port (DNS rebinding) and read the response. So only hosts are served that no
 * public name server can answer: IP addresses, `localhost`, names without a dot, and names of Services in a cluster.
 */
function isTrustedHost(header: string | undefined): boolean {
  if (header === undefined) return true;
  const host = header.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isIP(host) !== 0 || !host.includes('.') || /\.(svc|svc\.cluster\.local|localhost)$/i.test(host);
}

function sendText(response: ServerResponse, status: number, body: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers }).end(body);
}
