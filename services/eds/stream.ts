/** The gRPC edge of one client's stream: passes requests to its subscriptions and sends responses, one at a time. */
import { status as grpcStatus, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Logger } from '../shared/log.ts';
import { type Encoder, endpointType, type StreamKind } from './encoding.ts';
import type { Metrics } from './metrics.ts';
import type { Publisher, ResourceSnapshot } from './publisher.ts';
import { type AnyDiscoveryRequest, cutText, maxNames, maxTextCharacters, readRequest } from './requests.ts';
import type { StreamList, StreamView } from './stream-list.ts';
import { type RequestOutcome, Subscription } from './subscription.ts';

/** Encoder has already encoded responses, so the service definition passes the bytes unchanged. */
type DiscoveryStream = ServerDuplexStream<AnyDiscoveryRequest, Buffer>;

/** Envoy uses about ten types. Each type costs a subscription. */
const maxTypes = 16;
/** Maximum number of names in a delta subscription, over all requests of a stream. */
const maxKeptNames = 10 * maxNames;
/** A Pod's name has at most 253 bytes, and a zone's label 63. */
const maxNodeBytes = 256;
const tooMuch = `a request may name at most ${maxNames} resources, with at most ${maxTextCharacters} characters each`;
const emptySnapshot: ResourceSnapshot = { version: '', versions: new Map(), resources: new Map() };

export interface StreamContext {
  readonly publisher: Publisher;
  readonly encoder: Encoder;
  readonly streams: StreamList;
  readonly maxStreams: number;
  readonly maxStreamsPerPeer: number;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** The handler of one of the four methods. */
export function createStreamHandler(context: StreamContext, kind: StreamKind, { isAggregated }: { isAggregated: boolean }) {
  return (call: DiscoveryStream): void => {
    if (context.streams.size >= context.maxStreams) {
      fail(call, grpcStatus.RESOURCE_EXHAUSTED, `${context.maxStreams} streams are open already`);
      return;
    }
    if (context.streams.sizeOf(call.getPeer()) >= context.maxStreamsPerPeer) {
      fail(call, grpcStatus.RESOURCE_EXHAUSTED, `${context.maxStreamsPerPeer} streams of this address are open already`);
      return;
    }
    new Stream(context, call, kind, isAggregated).open();
  };
}

class Refused extends Error {
  readonly code: grpcStatus;
  constructor(code: grpcStatus, message: string) {
    super(message);
    this.code = code;
  }
}

class Stream implements StreamView {
  readonly subscriptions = new Map<string, { readonly subscription: Subscription; lastAcknowledgedAt: Date | undefined }>();
  readonly openedAt = new Date();
  readonly peer: string;
  readonly kind: StreamKind;
  readonly isAggregated: boolean;
  node = '';
  zone = '';
  isWriting = false;
  readonly #context: StreamContext;
  readonly #call: DiscoveryStream;
  #stopListening = (): void => undefined;

  constructor(context: StreamContext, call: DiscoveryStream, kind: StreamKind, isAggregated: boolean) {
    this.#context = context;
    this.#call = call;
    this.kind = kind;
    this.isAggregated = isAggregated;
    this.peer = call.getPeer();
  }

  open(): void {
    const call = this.#call;
    this.#context.streams.add(this);
    this.#stopListening = this.#context.publisher.onPublish((changedAt) => {
      this.#context.streams.fallBehind(this, changedAt);
      this.#guarded(() => this.#push());
    });
    call.on('data', (request: AnyDiscoveryRequest) => this.#guarded(() => this.#receive(request)));
    call.on('end', () => {
      this.#close();
      call.end();
    });
    for (const event of ['cancelled', 'error', 'close'] as const) call.on(event, () => this.#close());
  }

  end(): void {
    this.#close();
    fail(this.#call, grpcStatus.UNAVAILABLE, 'this replica has no current list; connect again');
  }

  #close(): void {
    this.#stopListening();
    this.#context.streams.remove(this);
    this.subscriptions.clear();
  }

  /** A fault ends only this stream. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      const { log } = this.#context;
      if (error instanceof Refused) log.warn({ node: this.node, peer: this.peer, reason: error.message }, 'a request was rejected');
      else log.error({ node: this.node, peer: this.peer, err: error }, 'a stream failed');
      this.#close();
      fail(this.#call, error instanceof Refused ? error.code : grpcStatus.INTERNAL, (error as Error).message);
    }
  }

  #receive(request: AnyDiscoveryRequest): void {
    // “The node identifier”: only the first request of a stream must contain it.
    if (request.node) {
      this.node = cutText(request.node.id || this.node, maxNodeBytes);
      this.zone = cutText(request.node.locality?.zone || this.zone, maxNodeBytes);
    }
    const typeUrl = this.#typeOf(request);
    const entry = this.subscriptions.get(typeUrl) ?? this.#subscribe(typeUrl);
    const read = readRequest(this.kind, request);
    if (read === undefined) throw new Refused(grpcStatus.INVALID_ARGUMENT, tooMuch);
    const outcome = entry.subscription.receive(read);
    if (entry.subscription.names.size > maxKeptNames) {
      throw new Refused(grpcStatus.RESOURCE_EXHAUSTED, `a stream may subscribe to at most ${maxKeptNames} names of a type`);
    }
    if (outcome.kind === 'ack') entry.lastAcknowledgedAt = new Date();
    this.#count(outcome);
    this.#push();
  }

  /** “ADS”: each request must name its type. The methods of a single type may omit it. */
  #typeOf({ type_url: typeUrl }: AnyDiscoveryRequest): string {
    if (this.isAggregated) {
      if (!typeUrl) throw new Refused(grpcStatus.INVALID_ARGUMENT, 'a request over ADS needs a type_url');
      if (typeUrl.length > maxTextCharacters) throw new Refused(grpcStatus.INVALID_ARGUMENT, 'type_url is too long');
      return typeUrl;
    }
    if (typeUrl && typeUrl !== endpointType)
      throw new Refused(
        grpcStatus.INVALID_ARGUMENT,
        `type_url is ${cutText(typeUrl, maxNodeBytes)}; this method serves only ${endpointType}`,
      );
    return endpointType;
  }

  #subscribe(typeUrl: string): { readonly subscription: Subscription; lastAcknowledgedAt: Date | undefined } {
    if (this.subscriptions.size >= maxTypes) throw new Refused(grpcStatus.RESOURCE_EXHAUSTED, `a stream may use at most ${maxTypes} types`);
    const entry = { subscription: new Subscription(this.kind), lastAcknowledgedAt: undefined };
    this.subscriptions.set(typeUrl, entry);
    return entry;
  }

  #count(outcome: RequestOutcome): void {
    const { metrics, log } = this.#context;
    if (outcome.kind === 'ack') metrics.acks.inc();
    if (outcome.kind !== 'nack') return;
    metrics.nacks.inc();
    log.error({ node: this.node, zone: this.zone, version: outcome.version, reason: outcome.reason }, 'an Envoy rejected the assignment');
  }

  /**
   * Sends the next response. While one is in flight, no other is queued, so a slow client holds only one. Its next response has the newest
   * resources that it still subscribes to.
   */
  #push(): void {
    if (this.isWriting) return;
    const { publisher, encoder, metrics, streams } = this.#context;
    const endpoints = publisher.snapshot(this.zone);
    if (endpoints === undefined) return;
    for (const [typeUrl, { subscription }] of this.subscriptions) {
      // Over ADS, types other than endpoints exist but have no resources.
      const snapshot = typeUrl === endpointType ? endpoints : emptySnapshot;
      const response = subscription.nextResponse(snapshot);
      if (response === undefined) continue;
      metrics.pushes.inc();
      this.isWriting = true;
      this.#call.write(encoder.response(this.kind, typeUrl, response, snapshot.resources), () => {
        this.isWriting = false;
        this.#guarded(() => this.#push());
      });
      return;
    }
    streams.catchUp(this);
  }
}

function fail(call: DiscoveryStream, code: grpcStatus, details: string): void {
  call.emit('error', { code, details });
}
