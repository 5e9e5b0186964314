import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { listen } from '../../services/shared/listen.ts';

export interface ObjectServer {
  readonly url: string;
  readonly objects: Map<string, Buffer>;
  /** Every request for an object, with its Authorization header. */
  readonly requests: { readonly method: string; readonly key: string; readonly authorization: string | undefined }[];
  /** Responds to a request and returns true, or returns false to leave the request to the server. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  close(): Promise<void>;
}

/** A fake kura in memory for tests of clients: GET, HEAD, PUT and DELETE of objects. */
export async function startObjectServer({
  port = 0,
  tls,
}: {
  port?: number;
  /** Makes it an HTTPS server. */
  tls?: { readonly cert: Buffer; readonly key: Buffer };
} = {}): Promise<ObjectServer> {
  const objects = new Map<string, Buffer>();
  const requests: ObjectServer['requests'] = [];
  const handle = (request: IncomingMessage, response: ServerResponse, accept: () => void): void => {
    const key = (request.url ?? '').slice('/objects/'.length);
    const { method = '' } = request;
    if (request.url === '/') {
      response.writeHead(404).end();
      return;
    }
    requests.push({ method, key, authorization: request.headers.authorization });
    if (state.intercept(request, response)) {
      // An interceptor that has not responded yet reads the body.
      if (!response.writableEnded) accept();
      return;
    }
    if (method === 'PUT') {
      accept();
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        objects.set(key, Buffer.concat(chunks));
        response.writeHead(201, { 'content-length': 0 }).end();
      });
      return;
    }
    const object = objects.get(key);
    if (method === 'DELETE') objects.delete(key);
    if (object === undefined) response.writeHead(404, { 'content-type': 'application/problem+json' }).end('{"status":404,"code":"miss"}\n');
    else if (method === 'DELETE') response.writeHead(204).end();
    else response.writeHead(200, { 'content-length': object.length }).end(method === 'HEAD' ? undefined : object);
  };
  const plain: RequestListener = (request, response) => handle(request, response, () => undefined);
  const server = tls === undefined ? createServer(plain) : createSecureServer(tls, plain);
  // Like Envoy, the server refuses an upload before its body.
  server.on('checkContinue', (request, response) => handle(request, response, () => response.writeContinue()));
  const listening = await listen(server, { host: '127.0.0.1', port });
  const state: ObjectServer = {
    url: `${tls === undefined ? 'http' : 'https'}://${listening.address}`,
    objects,
    requests,
    intercept: () => false,
    close: listening.close,
  };
  return state;
}
