/** Reads a page of a part, with a deadline and a bound. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';

/** The streams of 1,000 Envoys. The metrics of a shard have some 30 KiB. */
const maxPageBytes = 4 * 1024 * 1024;

export interface PageAddress {
  readonly address: string;
  readonly port: number;
  readonly path: string;
}

/** Opens a connection for each request: idle connections to 1,000 shards would use more memory than their numbers. */
export async function readPage({ address, port, path }: PageAddress, signal: AbortSignal): Promise<string> {
  const outgoing = request({ host: address, port, path, agent: false, signal });
  // An error after the last listener was removed must not end the process.
  outgoing.on('error', () => undefined);
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > maxPageBytes) throw new Error('the page is too long');
    pieces.push(piece);
  }
  if (response.statusCode !== 200) throw new Error(`the page has status ${response.statusCode}`);
  return Buffer.concat(pieces).toString();
}
