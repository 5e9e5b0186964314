/** What the handlers need from a connection to answer one request. Each HTTP edge has its own implementation. */
import type { Writable } from 'node:stream';
import type { Result } from '../../counters.ts';
import type { ProblemCode } from '../problems.ts';

/** Header fields: name, value, name, value, … */
export type Fields = readonly string[];

/** Where the body of a response goes. */
export interface BodySink {
  readonly to: Writable;
  /** Bytes that go before the body in the same write: the response's head, where the edge writes it itself. */
  readonly head: Buffer | undefined;
  /** Called once the first bytes are known to be right and before they are written. */
  begin(): void;
  /** Called after the last byte. */
  end(): void;
}

export interface Reply {
  /** The client waits for permission to send its body (`Expect: 100-continue`). */
  readonly isAwaited: boolean;
  /** The body of the request. Reading it gives the permission. Throws when the client stalls, leaves or breaks off. */
  readonly body: AsyncIterable<Buffer>;
  /** Sends a whole response without a body. */
  send(status: number, fields: Fields): void;
  /** Starts a response with a body. Nothing is sent before `begin`. */
  stream(status: number, fields: Fields): BodySink;
  /** Sends a problem, after what is left of the request's body was read and dropped. */
  refuse(code: ProblemCode, fields?: Fields): Promise<void>;
}

/** Sends the client to this shard's own address. */
export function redirect(reply: Pick<Reply, 'send'>, location: string): Result {
  reply.send(307, ['location', location, 'cache-control', 'no-store', 'content-length', '0']);
  return 'redirected';
}

export async function refuse(reply: Reply, code: ProblemCode, fields: Fields = []): Promise<Result> {
  await reply.refuse(code, fields);
  return code === 'miss' ? 'miss' : 'refused';
}
