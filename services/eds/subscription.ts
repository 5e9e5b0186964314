/**
 * Pure: one subscription, the state of one resource type on one stream, and what each message makes of it. State of the world and delta differ in how a client says
 * what it wants and holds; what is due is decided alike. Section names are those of
 * https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
 */

/** The resources of one type by name, as one version of them all. */
export interface ResourceVersions {
  /** Version of the whole: equal for equal content. */
  readonly version: string;
  readonly versions: ReadonlyMap<string, string>;
}

interface AnyRequest {
  /** Of the response that it acknowledges or refuses; empty for none. */
  readonly nonce: string;
  /** The client's words where it refuses that response (NACK). */
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

/** What has to be sent. */
export interface Response {
  readonly nonce: string;
  readonly version: string;
  readonly names: readonly string[];
  /** Delta alone: names that do not exist, or no longer. */
  readonly removed: readonly string[];
}

const everything = '*';
const nowhere = '';

export class Subscription {
  readonly #kind: SubscriptionRequest['kind'];
  /** What the client asked for by name, `*` included. */
  #names = new Set<string>();
  #isLegacyWildcard = false;
  #hasNamed = false;
  #isOpen = false;
  /** The version of each wanted resource that the client holds, was sent or refused: none of these is sent again. `nowhere` = it was told that there is none. */
  readonly #held = new Map<string, string>();
  /** State of the world: the version with which the client came back and what it then asked for, until the first response is decided. */
  #resumed: { readonly version: string; readonly names: ReadonlySet<string>; readonly isWildcard: boolean } | undefined;
  #owesEmpty = false;
  #nonces = 0;
  #sent: { readonly version: string; readonly nonce: string; isAnswered: boolean } | undefined;

  /** The last version that the client took. */
  acknowledged: string | undefined;
  /** The last version that it refused, until it takes a later one. */
  refused: { readonly version: string; readonly reason: string } | undefined;

  constructor(kind: SubscriptionRequest['kind']) {
    this.#kind = kind;
  }

  get sentVersion(): string | undefined {
    return this.#sent?.version;
  }

  /** Delta: the version of a resource that the client said it holds when it came, as long as nothing was sent to it. */
  broughtVersion(name: string): string | undefined {
    return this.#sent === undefined ? this.#held.get(name) : undefined;
  }

  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Takes a request. Call `nextResponse` afterwards. */
  receive(request: SubscriptionRequest): RequestOutcome {
    if (request.kind !== this.#kind) throw new TypeError(`a ${request.kind} request on a ${this.#kind} stream`);
    const isFirst = !this.#isOpen;
    this.#isOpen = true;
    return request.kind === 'full' ? this.#receiveFull(request, isFirst) : this.#receiveDelta(request, isFirst);
  }

  #receiveFull({ names, version, nonce, refusal }: FullRequest, isFirst: boolean): RequestOutcome {
    // «Resource Updates»: a request with a stale nonce is ignored; the client repeats what it wants with its next one. A nonce on a new stream is from the old one and means nothing.
    if (!isFirst && nonce !== '' && nonce !== this.#sent?.nonce) return { kind: 'stale' };
    this.#replaceNames(new Set(names));
    if (isFirst) {
      // «Instance version»: a version in the first request is what the client already has.
      if (version !== '') {
        this.#resumed = { version, names: this.#names, isWildcard: this.#isWildcard() };
        this.acknowledged = version;
      }
      return { kind: 'subscribed' };
    }
    // A request with the last nonce and another version than it was sent changes names after a NACK; it takes nothing.
    const isAbout = nonce !== '' && (refusal !== undefined || version === this.#sent?.version);
    return isAbout ? this.#settle(refusal) : { kind: 'subscribed' };
  }

  #receiveDelta({ subscribe, unsubscribe, initialVersions, nonce, refusal }: DeltaRequest, isFirst: boolean): RequestOutcome {
    if (isFirst) {
      // «Wildcard subscriptions»: a first request that names nothing asks for everything, and in delta that stays until `*` is unsubscribed.
      if (subscribe.length === 0) this.#names.add(everything);
      // «Client reconnect»: what the client says that it holds is not sent again.
      for (const [name, version] of Object.entries(initialVersions)) this.#held.set(name, version);
    }
    for (const name of subscribe) {
      this.#names.add(name);
      // «Subscribing to resources»: also one that the client has already is sent again, since it may have dropped it.
      if (!isFirst) this.#held.delete(name);
    }
    for (const name of unsubscribe) {
      if (!this.#names.delete(name)) continue;
      // «Unsubscribing»: what `*` still covers has to be sent again (or told as removed); the client may take it for gone.
      if (this.#isWildcard() && this.#held.has(name)) this.#held.set(name, 'unsubscribed');
    }
    if (isFirst && this.#isWildcard()) this.#owesEmpty = true;
    this.#forgetUnwanted();
    if (isFirst || nonce === '') return { kind: 'subscribed' };
    // «ACK and NACK»: in delta a nonce is only about the response; the changes of the subscription above count whatever it is.
    return nonce === this.#sent?.nonce ? this.#settle(refusal) : { kind: 'stale' };
  }

  /** Decides what has to be sent now, takes it as sent and returns it; undefined = nothing. */
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
      // A name that was asked for is told once and answered when it appears; one that only `*` covered is forgotten.
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

  /** «ACK and NACK»: each response is answered once; what follows with its nonce only changes names. */
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

  /** State of the world: each request holds all names. */
  #replaceNames(names: Set<string>): void {
    // «Wildcard subscriptions»: an empty list asks for everything only as long as no name was ever given; later it asks for nothing.
    if (names.size > 0) this.#hasNamed = true;
    this.#isLegacyWildcard = names.size === 0 && !this.#hasNamed;
    this.#names = names;
    this.#forgetUnwanted();
  }

  #isWildcard(): boolean {
    return this.#isLegacyWildcard || this.#names.has(everything);
  }

  /** What is no longer wanted is due anew once it is wanted again. */
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
