/** Pure: what a ServiceAccount token says, and what the review of one is answered with. */

/** The issuer of every token, and the audience of those for the API itself. */
export const issuer = 'https://kubernetes.default.svc';

export interface Reference {
  readonly name: string;
  readonly uid: string;
}

/** The private claim `kubernetes.io`. */
export interface KubernetesClaims {
  readonly namespace: string;
  readonly node?: Reference;
  readonly pod?: Reference;
  readonly serviceaccount: Reference;
}

export interface TokenClaims {
  readonly aud: readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly iss: string;
  readonly jti: string;
  readonly 'kubernetes.io': KubernetesClaims;
  readonly nbf: number;
  readonly sub: string;
}

interface UserInfo {
  readonly username: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** The `status` of a TokenReview. A refusal has no `authenticated` at all, as the real one (facts/kubernetes.md). */
export type ReviewStatus =
  | { readonly authenticated: true; readonly user: UserInfo; readonly audiences: readonly string[] }
  | { readonly user: Readonly<Record<string, never>>; readonly error: string };

export function usernameOf(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}
