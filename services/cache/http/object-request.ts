/** One request for an object, as both HTTP edges read it. */
import type { Key } from '../../shared/key.ts';
import type { Caller } from './ticket.ts';

/** `direct` may be redirected to this shard's own address; `ticket` is where such a redirect leads. */
export type Route = 'objects' | 'direct' | 'ticket';

/** Who asks, with which limits, and how the body may travel. Admission decides it. */
export interface Terms extends Caller {
  readonly route: Route;
  /** The one version that a ticket opens. */
  readonly version: string | undefined;
}

export interface ObjectRequest extends Terms {
  readonly method: string;
  readonly key: Key;
  /** Bytes of the body: 0 without one, undefined for a chunked body. */
  readonly length: number | undefined;
  readonly contentType: string | undefined;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly ifNoneMatch: string | undefined;
}

/** The counter of body bytes that a request belongs to. */
export function bodyRoute({ route }: { readonly route: Route }): 'proxied' | 'direct' {
  return route === 'ticket' ? 'direct' : 'proxied';
}
