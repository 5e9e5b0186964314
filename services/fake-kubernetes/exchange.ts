/** One request and its answer: body in, JSON out. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isFields, type ObjectInput } from './object.ts';
import { ApiError, badRequest, tooLarge } from './status.ts';

/** The real API's limit of a request body. */
const bodyLimitBytes = 3 * 2 ** 20;

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly message: IncomingMessage;
  readonly response: ServerResponse;
}

export function answer(response: ServerResponse, code: number, body: object, contentType = 'application/json'): void {
  response.writeHead(code, { 'content-type': contentType }).end(`${JSON.stringify(body)}\n`);
}

/** Throws ApiError (400, 413 or 415) for a body that is no JSON object. */
export async function readObject(exchange: Exchange, kind: string): Promise<ObjectInput> {
  const type = (exchange.message.headers['content-type'] ?? 'application/json').split(';', 1)[0]?.trim();
  if (type !== 'application/json') {
    const message = 'the body of the request was in an unknown format - accepted media types include: application/json';
    throw new ApiError({ code: 415, reason: 'UnsupportedMediaType', message });
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
    // The parser's message may repeat what was sent, a token for instance.
    throw badRequest("the object provided is unrecognized: couldn't get version/kind; json parse error");
  }
}

/** Reads to the end even what is too large, up to a point, so that the client has an ear for the refusal. */
async function readText(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  await new Promise<void>((resolve, reject) => {
    message.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= bodyLimitBytes) chunks.push(chunk);
      if (length > 4 * bodyLimitBytes) reject(tooLarge(bodyLimitBytes));
    });
    message.once('end', resolve);
    message.once('error', reject);
    const leave = (): void => reject(new Error('the client went away'));
    if (message.destroyed) leave();
    else message.once('close', leave);
  });
  if (length > bodyLimitBytes) throw tooLarge(bodyLimitBytes);
  return Buffer.concat(chunks).toString();
}
