/** What the service needs from a kind of storage. */
import type { Readable } from 'node:stream';
import type { Origin } from '../../shared/origins.ts';
import type { OriginPath } from './origin-path.ts';

/** How a source reaches its storage. */
export type ReachOptions = Pick<Origin, 'allowedHosts' | 'maxConcurrency' | 'timeoutMs'>;

export interface OpenRequest {
  readonly method: 'GET' | 'HEAD';
  /** Both ends are included. Without `last`, to the end of the object. */
  readonly range: { readonly first: number; readonly last: number | undefined } | undefined;
  /** Aborted when the caller leaves, or when the origin is too slow. */
  readonly signal: AbortSignal;
}

export interface OpenedObject {
  readonly kind: 'object';
  /** Of the whole object; undefined if the origin does not announce it. */
  readonly bytes: number | undefined;
  /** First byte of the body. Undefined: the body is the whole object, also when a range was requested. */
  readonly first: number | undefined;
  /** Bytes of the body; undefined if the origin does not announce them. */
  readonly bodyBytes: number | undefined;
  /** A strong entity tag with its quotes; undefined if the origin has none. */
  readonly version: string | undefined;
  readonly modified: Date | undefined;
  /** Undefined for HEAD. The reader must read or destroy it. */
  readonly body: Readable | undefined;
}

export type Opened =
  | OpenedObject
  | { readonly kind: 'miss' }
  | { readonly kind: 'range-not-satisfiable' }
  /** The origin does not accept the credentials of the service, or its policy denies the object. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string };

export interface ListRequest {
  readonly prefix: OriginPath;
  readonly after: OriginPath | undefined;
  readonly signal: AbortSignal;
}

export interface ListedObject {
  /** The rest of the key, percent-encoded. */
  readonly path: string;
  readonly bytes: number;
  readonly modified: Date | undefined;
}

export interface ObjectSource {
  /** Does not reject for a fault of the origin. */
  open(path: OriginPath, request: OpenRequest): Promise<Opened>;
  /**
   * The objects under a prefix, in the order of the bytes of their names, after the name `after`. Undefined if the origin cannot list.
   * Rejects with OriginError for a fault of the origin.
   */
  list?(request: ListRequest): AsyncIterable<ListedObject>;
  close(): Promise<void>;
}

/** A weak tag does not promise equal bytes, and other characters are not allowed in a header. */
export function strongTag(tag: unknown): string | undefined {
  return typeof tag === 'string' && /^"[\x21\x23-\x7e]*"$/.test(tag) ? tag : undefined;
}

/** A fault of an origin while it lists. */
export class OriginError extends Error {
  readonly code: 'refused' | 'failed';

  constructor(code: 'refused' | 'failed', message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
