/** Pure: the identity of a token, and the possible results of resolving a token. */

export interface Identity {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Absent only for a token without a Pod, which a setting may allow. */
  readonly pod?: { readonly name: string; readonly uid: string };
}

export type Resolution =
  /**
   * `goodUntil`: when the token or the review's result expires, in milliseconds since the epoch. Nothing derived from it may live longer.
   */
  | { readonly kind: 'identity'; readonly identity: Identity; readonly cached: boolean; readonly goodUntil: number }
  /** The token is invalid, according to the local checks or to the API. */
  | { readonly kind: 'refused'; readonly reason: string }
  | Unavailable;

/** The API did not respond, so the identity is unknown. With `isOverload`, authz did not ask it. */
export interface Unavailable {
  readonly kind: 'unavailable';
  readonly reason: string;
  readonly isOverload?: boolean;
}
