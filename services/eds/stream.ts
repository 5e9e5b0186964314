/** The gRPC edge: one client's stream, requests into its subscriptions, responses out, never more than one on its way. */
import { status as grpcStatus, type ServerDuplexStream } from '@grpc/grpc-js';
import type { Logger } from '../shared/log.ts';
import { type Encoder, endpointType, type StreamKind } from './encoding.ts';
import type { Metrics } from './metrics.ts';
import type { Publisher, ResourceSnapshot } from './publisher.ts';
import { type AnyDiscoveryRequest, maxNames, readRequest } from './requests.ts';
import type { StreamList, StreamView } from './stream-list.ts';
import { type RequestOutcome, Subscription } from './subscription.ts';

/** Responses are encoded by Encoder already; the service definition passes the bytes on. */
type DiscoveryStream = ServerDuplexStream<AnyDiscoveryRequest, Buffer>;

/** Envoy uses about ten types; each costs a subscription. */
const maxTypes = 16;
/** What clients may subscribe to in delta over several requests. */
const maxKeptNames = 10 * maxNames;
const emptySnapshot: ResourceSnapshot = { version: '', versions: new Map(), resources: new Map() };

export interface StreamContext {
  readonly publisher: Publisher;
  readonly encoder: Encoder;
  readonly streams: StreamList;
  readonly maxStreams: number;
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

  #close(): void {
    this.#stopListening();
    this.#context.streams.remove(this);
    this.subscriptions.clear();
  }

  /** A fault ends this stream and no other. */
  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      const { log } = this.#context;
      if (error instanceof Refused) log.warn({ node: this.node, peer: this.peer, reason: error.message }, 'a request was refused');
      else log.error({ node: this.node, peer: this.peer, err: error }, 'a stream failed');
      this.#close();
      fail(this.#call, error instanceof Refused ? error.code : grpcStatus.INTERNAL, (error as Error).message);
    }
  }

  #receive(request: AnyDiscoveryRequest): void {
    // «The node identifier»: required in the first request of a stream only.
    if (request.node) {
      this.node = request.node.id || this.node;
      this.zone = request.node.locality?.zone || this.zone;
    }
    const typeUrl = this.#typeOf(request);
    const entry = this.subscriptions.get(typeUrl) ?? this.#subscribe(typeUrl);
    const read = readRequest(this.kind, request);
    if (read === undefined) throw new Refused(grpcStatus.INVALID_ARGUMENT, `a request may name ${maxNames} resources at most`);
    const outcome = entry.subscription.receive(read);
    if (entry.subscription.names.size > maxKeptNames) {
      throw new Refused(grpcStatus.RESOURCE_EXHAUSTED, `a stream may hold ${maxKeptNames} names of a type at most`);
    }
    if (outcome.kind === 'ack') entry.lastAcknowledgedAt = new Date();
    this.#count(outcome);
    this.#push();
  }

  /** «ADS»: there the type of each request must be said; the methods of one type may leave it out. */
  #typeOf({ type_url: typeUrl }: AnyDiscoveryRequest): string {
    if (this.isAggregated) {
      if (!typeUrl) throw new Refused(grpcStatus.INVALID_ARGUMENT, 'a request over ADS needs a type_url');
      return typeUrl;
    }
    if (typeUrl && typeUrl !== endpointType)
      throw new Refused(grpcStatus.INVALID_ARGUMENT, `only ${endpointType} is served here, not ${typeUrl}`);
    return endpointType;
  }

  #subscribe(typeUrl: string): { readonly subscription: Subscription; lastAcknowledgedAt: Date | undefined } {
    if (this.subscriptions.size >= maxTypes)
      throw new Refused(grpcStatus.RESOURCE_EXHAUSTED, `a stream may have ${maxTypes} types at most`);
    const entry = { subscription: new Subscription(this.kind), lastAcknowledgedAt: undefined };
    this.subscriptions.set(typeUrl, entry);
    return entry;
  }

  #count(outcome: RequestOutcome): void {
    const { metrics, log } = this.#context;
    if (outcome.kind === 'ack') metrics.acks.inc();
    if (outcome.kind !== 'nack') return;
    metrics.nacks.inc();
    log.error({ node: this.node, zone: this.zone, version: outcome.version, reason: outcome.reason }, 'an Envoy refused the assignment');
  }

  /**
   * Sends what is due. While a response is on its way nothing is queued behind it: a client that does not read holds one response. When it reads again it gets the
   * newest resources that it still wants.
   */
  #push(): void {
    if (this.isWriting) return;
    const { publisher, encoder, metrics, streams } = this.#context;
    const endpoints = publisher.snapshot(this.zone);
    if (endpoints === undefined) return;
    for (const [typeUrl, { subscription }] of this.subscriptions) {
      // Other types than endpoints exist over ADS, and are empty here.
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
