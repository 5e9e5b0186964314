/** A request for an object, in the form that both HTTP edges produce. */
import type { Key } from '../../shared/key.ts';
import type { FillTerms } from '../../shared/signed-terms.ts';
import type { ExpectedDigest } from './digests.ts';
import type { Caller } from './ticket.ts';

/**
 * `direct`: the shard may redirect the request to its own address. `ticket`: the target of such a redirect. `through`: a miss may be fetched
 * from the origin.
 */
export type Route = 'objects' | 'direct' | 'ticket' | 'through';

/** From where a miss is fetched, and the headers of the caller that prove its right. */
interface RequestFill extends FillTerms {
  readonly callerHeader: string;
  readonly termsHeader: string;
}

/** Identity and limits of the caller, and the route of the body. Admission sets them. */
export interface Terms extends Caller {
  readonly route: Route;
  /** The ETag of the only version that a ticket is valid for. */
  readonly version: string | undefined;
  /** Undefined: a miss stays a miss. Only the route `through` has it. */
  readonly fill: RequestFill | undefined;
}

export interface ObjectRequest extends Terms {
  readonly method: string;
  readonly key: Key;
  /** Bytes of the body: 0 without one, undefined for a chunked body. */
  readonly length: number | undefined;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  /** Digests from the client. The upload is rejected if the body does not match. */
  readonly digests: readonly ExpectedDigest[];
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly ifMatch: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly ifModifiedSince: string | undefined;
  readonly ifUnmodifiedSince: string | undefined;
  readonly cacheControl: string | undefined;
  /** The received values of `x-request-id` and `traceparent`, for the request log. */
  readonly requestId: string | undefined;
  readonly traceparent: string | undefined;
}

/** The counter for the body bytes of a request. */
export function bodyRoute({ route }: { readonly route: Route }): 'proxied' | 'direct' {
  return route === 'ticket' ? 'direct' : 'proxied';
}
