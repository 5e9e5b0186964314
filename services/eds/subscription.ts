/**
 * Pure: the state of one state-of-the-world subscription and what each message makes of it.
 * Source of the rules: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
 */

export interface SubscriptionRequest {
  readonly resourceNames: readonly string[];
  readonly versionInfo: string;
  readonly responseNonce: string;
  /** The client's words where it refuses a version (NACK). */
  readonly refusal: string | undefined;
}

export type RequestOutcome =
  /** It answers an older response of ours and means nothing any more («ACK and NACK»: stale nonces are ignored). */
  | { readonly kind: 'stale' }
  | { readonly kind: 'subscribed' }
  | { readonly kind: 'ack'; readonly version: string }
  | { readonly kind: 'nack'; readonly version: string; readonly reason: string };

export class Subscription {
  /** What the client asked for; undefined before its first request. An empty first list is the legacy wildcard. */
  #names: ReadonlySet<string> | undefined;
  #isWildcard = false;
  #sent: { readonly version: string; readonly nonce: string } | undefined;
  #nonces = 0;
  /** Names for which an answer is owed whatever the version: newly subscribed ones. */
  #owed = new Set<string>();

  /** The version that the client last acknowledged. */
  acknowledged: string | undefined;

  /** Takes a request. What is to be sent now is asked for by `answer`. */
  receive({ resourceNames, versionInfo, responseNonce, refusal }: SubscriptionRequest): RequestOutcome {
    const isFirst = this.#names === undefined;
    if (!isFirst && responseNonce !== '' && responseNonce !== this.#sent?.nonce) return { kind: 'stale' };
    const names = new Set(resourceNames);
    this.#isWildcard = names.has('*') || (names.size === 0 && (isFirst || (this.#isWildcard && !this.#names?.has('*'))));
    for (const name of names) if (!this.#names?.has(name)) this.#owed.add(name);
    for (const name of this.#owed) if (!names.has(name)) this.#owed.delete(name);
    this.#names = names;
    if (isFirst) {
      // A reconnecting client says which version it holds: that one is not sent again.
      if (versionInfo !== '') {
        this.acknowledged = versionInfo;
        this.#sent = { version: versionInfo, nonce: '' };
        this.#owed.clear();
      }
      return { kind: 'subscribed' };
    }
    if (responseNonce === '' || this.#sent === undefined) return { kind: 'subscribed' };
    const { version } = this.#sent;
    if (refusal !== undefined) return { kind: 'nack', version, reason: refusal };
    this.acknowledged = version;
    return { kind: 'ack', version };
  }

  /** Whether the resource `name` at `version` has to be sent now: it is asked for, and neither sent before nor refused. */
  wants(name: string, version: string): boolean {
    if (this.#names === undefined || !(this.#isWildcard || this.#names.has(name))) return false;
    return this.#owed.has(name) || this.#sent?.version !== version;
  }

  /** Notes that `version` goes out now and returns the nonce to send with it. */
  sending(version: string): string {
    this.#nonces += 1;
    const nonce = String(this.#nonces);
    this.#sent = { version, nonce };
    this.#owed.clear();
    return nonce;
  }
}
