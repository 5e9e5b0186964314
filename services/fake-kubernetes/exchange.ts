/** One request and its response: reads the body, and sends JSON. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isFields, type ObjectInput } from './object.ts';
import { badRequest, tooLarge, unsupportedMediaType } from './status.ts';

/** The real API's limit for the body of a request. */
const maxBodyBytes = 3 * 2 ** 20;

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly message: IncomingMessage;
  readonly response: ServerResponse;
}

export function sendJson(response: ServerResponse, code: number, body: object, contentType = 'application/json'): void {
  response.writeHead(code, { 'content-type': contentType }).end(`${JSON.stringify(body)}\n`);
}

/** The media type of the body, without parameters. */
export function contentTypeOf({ message }: Exchange): string {
  return (message.headers['content-type'] ?? 'application/json').split(';', 1)[0]?.trim() ?? '';
}

/** Throws ApiError (400, 413 or 415) for a body that is not a JSON object. */
export async function readObject(exchange: Exchange, kind: string): Promise<ObjectInput> {
  if (contentTypeOf(exchange) !== 'application/json') {
    throw unsupportedMediaType('the body of the request was in an unknown format - accepted media types include: application/json');
  }
  const body = await readBody(exchange);
  if (isFields(body)) return body as ObjectInput;
  throw badRequest(`the object provided is unrecognized (must be of type ${kind}): couldn't get version/kind`);
}

/** Undefined for an empty body. Throws ApiError (400 or 413). */
export async function readBody({ message }: Exchange): Promise<unknown> {
  const text = await readText(message);
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    // The parser's message may repeat input of the client, such as a token.
    throw badRequest("the object provided is unrecognized: couldn't get version/kind; json parse error");
  }
}

/**
 * Reads a body that is too large to its end, up to four times the limit. Otherwise a client that is still sending would not read the
 * response.
 */
async function readText(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  await new Promise<void>((resolve, reject) => {
    message.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxBodyBytes) chunks.push(chunk);
      if (length > 4 * maxBodyBytes) reject(tooLarge(maxBodyBytes));
    });
    message.once('end', resolve);
    message.once('error', reject);
    const leave = (): void => reject(new Error('the client closed the connection'));
    if (message.destroyed) leave();
    else message.once('close', leave);
  });
  if (length > maxBodyBytes) throw tooLarge(maxBodyBytes);
  return Buffer.concat(chunks).toString();
}
