/**
 * Pure: the subscription to one resource type on one stream. State of the world and delta differ in how a client expresses its subscription
 * and its versions; both decide alike what to send. Section names are those of
 * https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
 */

/** The resources of one type by name, as one version. */
export interface ResourceVersions {
  /** Version of all resources together: equal for equal content. */
  readonly version: string;
  readonly versions: ReadonlyMap<string, string>;
}

interface AnyRequest {
  /** Nonce of the response that this request acknowledges or rejects; empty for none. */
  readonly nonce: string;
  /** The client's reason for rejecting that response (NACK). */
  readonly refusal: string | undefined;
}

/** A DiscoveryRequest. */
interface FullRequest extends AnyRequest {
  readonly kind: 'full';
  readonly names: readonly string[];
  readonly version: string;
}

/** A DeltaDiscoveryRequest. */
interface DeltaRequest extends AnyRequest {
  readonly kind: 'delta';
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initialVersions: Readonly<Record<string, string>>;
}

export type SubscriptionRequest = FullRequest | DeltaRequest;

export type RequestOutcome =
  | { readonly kind: 'stale' }
  | { readonly kind: 'subscribed' }
  | { readonly kind: 'ack'; readonly version: string }
  | { readonly kind: 'nack'; readonly version: string; readonly reason: string };

/** The next response. */
export interface Response {
  readonly nonce: string;
  readonly version: string;
  readonly names: readonly string[];
  /** Only in delta: names that do not exist. */
  readonly removed: readonly string[];
}

const everything = '*';
const nowhere = '';

export class Subscription {
  readonly #kind: SubscriptionRequest['kind'];
  /** The names in the subscription, including `*`. */
  #names = new Set<string>();
  #isLegacyWildcard = false;
  #hasNamed = false;
  #isOpen = false;
  /**
   * For each subscribed resource, the version that the client holds, was sent, or rejected. That version is not sent again. `nowhere` = the
   * client knows that the resource does not exist.
   */
  readonly #held = new Map<string, string>();
  /** State of the world: the version and the names of the first request after a reconnect, until the first response is decided. */
  #resumed: { readonly version: string; readonly names: ReadonlySet<string>; readonly isWildcard: boolean } | undefined;
  #owesEmpty = false;
  #nonces = 0;
  #sent: { readonly version: string; readonly nonce: string; isAnswered: boolean } | undefined;

  /** The last version that the client accepted. */
  acknowledged: string | undefined;
  /** The last version that the client rejected, until it accepts a later one. */
  refused: { readonly version: string; readonly reason: string } | undefined;

  constructor(kind: SubscriptionRequest['kind']) {
    this.#kind = kind;
  }

  get sentVersion(): string | undefined {
    return this.#sent?.version;
  }

  /** Delta: the version of a resource that the client reported when it connected. Undefined after the first response. */
  broughtVersion(name: string): string | undefined {
    return this.#sent === undefined ? this.#held.get(name) : undefined;
  }

  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Handles a request. Call `nextResponse` afterwards. */
  receive(request: SubscriptionRequest): RequestOutcome {
    if (request.kind !== this.#kind) throw new TypeError(`a ${request.kind} request on a ${this.#kind} stream`);
    const isFirst = !this.#isOpen;
    this.#isOpen = true;
    return request.kind === 'full' ? this.#receiveFull(request, isFirst) : this.#receiveDelta(request, isFirst);
  }

  #receiveFull({ names, version, nonce, refusal }: FullRequest, isFirst: boolean): RequestOutcome {
    // “Resource Updates”: a request with a stale nonce is ignored, and the next request repeats the subscription. A nonce on a new stream
    // belongs to the previous stream and means nothing.
    if (!isFirst && nonce !== '' && nonce !== this.#sent?.nonce) return { kind: 'stale' };
    this.#replaceNames(new Set(names));
    if (isFirst) {
      // “Instance version”: the version in the first request is what the client already has.
      if (version !== '') {
        this.#resumed = { version, names: this.#names, isWildcard: this.#isWildcard() };
        this.acknowledged = version;
      }
      return { kind: 'subscribed' };
    }
    // A request with the last nonce but another version changes names after a NACK. It accepts nothing.
    const isAbout = nonce !== '' && (refusal !== undefined || version === this.#sent?.version);
    return isAbout ? this.#settle(refusal) : { kind: 'subscribed' };
  }

  #receiveDelta({ subscribe, unsubscribe, initialVersions, nonce, refusal }: DeltaRequest, isFirst: boolean): RequestOutcome {
    if (isFirst) {
      // “Wildcard subscriptions”: a first request without names subscribes to everything. In delta this holds until `*` is unsubscribed.
      if (subscribe.length === 0) this.#names.add(everything);
      // “Client reconnect”: resources that the client already holds are not sent again.
      for (const [name, version] of Object.entries(initialVersions)) this.#held.set(name, version);
    }
    for (const name of subscribe) {
      this.#names.add(name);
      // “Subscribing to resources”: a resource that the client names again is sent again, because the client may have dropped it.
      if (!isFirst) this.#held.delete(name);
    }
    for (const name of unsubscribe) {
      if (!this.#names.delete(name)) continue;
      // “Unsubscribing”: the client may have dropped what `*` still covers, so it must be sent again, or reported as removed.
      if (this.#isWildcard() && this.#held.has(name)) this.#held.set(name, 'unsubscribed');
    }
    if (isFirst && this.#isWildcard()) this.#owesEmpty = true;
    this.#forgetUnwanted();
    if (isFirst || nonce === '') return { kind: 'subscribed' };
    // “ACK and NACK”: in delta a nonce concerns only the response. The changes of the subscription above apply in any case.
    return nonce === this.#sent?.nonce ? this.#settle(refusal) : { kind: 'stale' };
  }

  /** Returns the next response and records it as sent; undefined = nothing to send. */
  nextResponse(snapshot: ResourceVersions): Response | undefined {
    if (!this.#isOpen) return undefined;
    this.#resume(snapshot);
    const names = this.#wanted(snapshot).filter(
      (name) => snapshot.versions.has(name) && this.#held.get(name) !== snapshot.versions.get(name),
    );
    const removed = this.#kind === 'delta' ? this.#gone(snapshot) : [];
    if (names.length + removed.length === 0 && !this.#owesEmpty) return undefined;
    this.#owesEmpty = false;
    for (const name of names) this.#hold(snapshot, name);
    for (const name of removed) {
      // A name that was subscribed explicitly is reported as removed once, and sent when it appears. A name that only `*` covered is
      // forgotten.
      if (this.#names.has(name)) this.#held.set(name, nowhere);
      else this.#held.delete(name);
    }
    this.#nonces += 1;
    this.#sent = { version: snapshot.version, nonce: String(this.#nonces), isAnswered: false };
    return { nonce: this.#sent.nonce, version: snapshot.version, names, removed };
  }

  #resume(snapshot: ResourceVersions): void {
    const resumed = this.#resumed;
    this.#resumed = undefined;
    if (resumed?.version !== snapshot.version) return;
    for (const name of this.#wanted(snapshot)) if (resumed.isWildcard || resumed.names.has(name)) this.#hold(snapshot, name);
  }

  /** “ACK and NACK”: a response is answered once. Later requests with its nonce only change names. */
  #settle(refusal: string | undefined): RequestOutcome {
    if (this.#sent === undefined || this.#sent.isAnswered) return { kind: 'subscribed' };
    this.#sent.isAnswered = true;
    const { version } = this.#sent;
    if (refusal !== undefined) {
      this.refused = { version, reason: refusal };
      return { kind: 'nack', version, reason: refusal };
    }
    this.acknowledged = version;
    this.refused = undefined;
    return { kind: 'ack', version };
  }

  /** State of the world: each request contains all names. */
  #replaceNames(names: Set<string>): void {
    // “Wildcard subscriptions”: an empty list means everything until a request has names. After that it means nothing.
    if (names.size > 0) this.#hasNamed = true;
    this.#isLegacyWildcard = names.size === 0 && !this.#hasNamed;
    this.#names = names;
    this.#forgetUnwanted();
  }

  #isWildcard(): boolean {
    return this.#isLegacyWildcard || this.#names.has(everything);
  }

  /** A resource that is no longer subscribed is sent again when it is subscribed again. */
  #forgetUnwanted(): void {
    if (this.#isWildcard()) return;
    for (const name of [...this.#held.keys()]) if (!this.#names.has(name)) this.#held.delete(name);
  }

  #wanted(snapshot: ResourceVersions): string[] {
    return this.#isWildcard() ? [...snapshot.versions.keys()] : [...this.#names];
  }

  #hold(snapshot: ResourceVersions, name: string): void {
    const version = snapshot.versions.get(name);
    if (version !== undefined) this.#held.set(name, version);
  }

  #gone(snapshot: ResourceVersions): string[] {
    const named = [...this.#names].filter((name) => name !== everything);
    const candidates = new Set([...named, ...this.#held.keys()]);
    return [...candidates].filter((name) => !snapshot.versions.has(name) && this.#held.get(name) !== nowhere);
  }
}
