/** The response to one request, as the handlers use it. Each HTTP edge has its own implementation. */
import type { Writable } from 'node:stream';
import type { Result } from '../../counters.ts';
import type { ProblemCode } from '../problems.ts';

/** Header fields: name, value, name, value, … */
export type Fields = readonly string[];

/** Where the body of a response goes. */
export interface BodySink {
  readonly to: Writable;
  /** The response head, if the edge writes it itself. It goes before the body in the same write. */
  readonly head: Buffer | undefined;
  /** Called after the check of the first bytes and before they are written. */
  begin(): void;
  /** Called after the last byte. */
  end(): void;
}

export interface Reply {
  /** The client waits for `100 Continue` before it sends its body. */
  readonly isAwaited: boolean;
  /** The body of the request. The first read sends `100 Continue` to a waiting client. Throws if the client disconnects or stalls. */
  readonly body: AsyncIterable<Buffer>;
  /** Sends a whole response without a body. */
  send(status: number, fields: Fields): void;
  /** Starts a response with a body. Nothing is sent before `begin`. */
  stream(status: number, fields: Fields): BodySink;
  /** Sends a problem, after the rest of the request body was read and dropped. */
  refuse(code: ProblemCode, fields?: Fields, detail?: string): Promise<void>;
}

/** Redirects the client to the address of this shard. */
export function redirect(reply: Pick<Reply, 'send'>, location: string): Result {
  reply.send(307, ['location', location, 'cache-control', 'no-store', 'content-length', '0']);
  return 'redirected';
}

export async function refuse(reply: Reply, code: ProblemCode, fields: Fields = []): Promise<Result> {
  await reply.refuse(code, fields);
  return code === 'miss' || code === 'origin-miss' ? 'miss' : 'refused';
}
