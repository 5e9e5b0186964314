/** The open streams, for `/debug/streams` and for the time that a change takes to the last stream. */

import type { StreamKind } from './encoding.ts';
import type { Subscription } from './subscription.ts';

/** The data of one stream that other parts read. */
export interface StreamView {
  readonly peer: string;
  readonly kind: StreamKind;
  readonly isAggregated: boolean;
  readonly openedAt: Date;
  node: string;
  zone: string;
  /** By type URL. */
  readonly subscriptions: ReadonlyMap<string, { readonly subscription: Subscription; lastAcknowledgedAt: Date | undefined }>;
  isWriting: boolean;
  /** Ends the stream, so that the client connects again. */
  end(): void;
}

export class StreamList {
  readonly #streams = new Set<StreamView>();
  /** Number of streams by address without port. */
  readonly #sizes = new Map<string, number>();
  /** Streams that have not received a change yet, with the time of that change. */
  readonly #behind = new Map<StreamView, number>();
  readonly #onLast: (seconds: number) => void;
  #worstMs = 0;

  /** Calls `onLast` each time all streams have the latest change, with the time of the slowest stream. */
  constructor({ onLast }: { onLast: (seconds: number) => void }) {
    this.#onLast = onLast;
  }

  get size(): number {
    return this.#streams.size;
  }

  get behind(): number {
    return this.#behind.size;
  }

  /** How many streams come from the address of `peer`, from any port. */
  sizeOf(peer: string): number {
    return this.#sizes.get(hostOf(peer)) ?? 0;
  }

  views(): Iterable<StreamView> {
    return this.#streams;
  }

  add(stream: StreamView): void {
    this.#streams.add(stream);
    this.#sizes.set(hostOf(stream.peer), this.sizeOf(stream.peer) + 1);
  }

  /** False when the stream was not in the list. */
  remove(stream: StreamView): boolean {
    if (this.#behind.delete(stream)) this.#settle();
    if (!this.#streams.delete(stream)) return false;
    const size = this.sizeOf(stream.peer) - 1;
    if (size === 0) this.#sizes.delete(hostOf(stream.peer));
    else this.#sizes.set(hostOf(stream.peer), size);
    return true;
  }

  /** Records that a change must be sent. `changedAt` is a time of performance.now. An older pending change keeps its time. */
  fallBehind(stream: StreamView, changedAt: number): void {
    if (!this.#behind.has(stream)) this.#behind.set(stream, changedAt);
  }

  /** Records that everything was sent to the stream. */
  catchUp(stream: StreamView): void {
    const changedAt = this.#behind.get(stream);
    if (changedAt === undefined) return;
    this.#worstMs = Math.max(this.#worstMs, performance.now() - changedAt);
    this.#behind.delete(stream);
    this.#settle();
  }

  /** Ends all streams. */
  endAll(): void {
    for (const stream of [...this.#streams]) stream.end();
  }

  /** The body of `/debug/streams`. `isCurrent` adds whether a client has the current assignment. */
  describe(isCurrent?: (stream: StreamView) => boolean): unknown[] {
    return [...this.#streams].map((stream) => ({
      node: stream.node,
      zone: stream.zone,
      peer: stream.peer,
      protocol: `${stream.isAggregated ? 'ADS' : 'EDS'}, ${stream.kind === 'full' ? 'state of the world' : 'delta'}`,
      openedAt: stream.openedAt,
      isWriting: stream.isWriting,
      isCurrent: isCurrent?.(stream),
      types: Object.fromEntries(
        [...stream.subscriptions].map(([typeUrl, { subscription, lastAcknowledgedAt }]) => [
          typeUrl,
          {
            names: [...subscription.names],
            sent: subscription.sentVersion ?? null,
            acknowledged: subscription.acknowledged ?? null,
            lastAcknowledgedAt: lastAcknowledgedAt ?? null,
            refused: subscription.refused ?? null,
          },
        ]),
      ),
    }));
  }

  #settle(): void {
    if (this.#behind.size > 0 || this.#worstMs === 0) return;
    this.#onLast(this.#worstMs / 1_000);
    this.#worstMs = 0;
  }
}

function hostOf(peer: string): string {
  return peer.replace(/:\d+$/, '');
}
