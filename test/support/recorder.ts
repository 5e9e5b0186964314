import { createServer, type IncomingHttpHeaders } from 'node:http';
import { listen } from '../../services/shared/listen.ts';

export interface Recorder {
  readonly port: number;
  /** The body of every response. */
  answer: Buffer;
  readonly requests: { readonly method: string; readonly url: string; readonly headers: IncomingHttpHeaders }[];
  close(): Promise<void>;
}

/** A fake shard that stores nothing and records its requests. */
export async function startRecorder(): Promise<Recorder> {
  const requests: { method: string; url: string; headers: IncomingHttpHeaders }[] = [];
  const server = createServer((request, response) => {
    if (request.url === '/healthz') {
      response.writeHead(200, { 'x-envoy-upstream-healthchecked-cluster': 'kura-cache' }).end('ok\n');
      return;
    }
    requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers });
    request.resume().on('end', () => response.writeHead(404, { 'content-length': recorder.answer.length }).end(recorder.answer));
  });
  const listening = await listen(server, { host: '127.0.0.1', port: 0 });
  const port = Number(listening.address.split(':').at(-1));
  const recorder: Recorder = { port, answer: Buffer.alloc(0), requests, close: listening.close };
  return recorder;
}
