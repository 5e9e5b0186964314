/** Pure: the identity behind a token, and what a resolution of a token can be. */

export interface Identity {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Absent only where tokens that are bound to no Pod are allowed. */
  readonly pod?: { readonly name: string; readonly uid: string };
}

export type Resolution =
  /** `goodUntil`: the end of the token or of the review's result, in milliseconds since the epoch; nothing derived from it may live longer. */
  | { readonly kind: 'identity'; readonly identity: Identity; readonly cached: boolean; readonly goodUntil: number }
  /** The token is not good: by our own check, or by the API's answer. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** The API did not answer: the identity is unknown. */
  | { readonly kind: 'unavailable'; readonly reason: string };
