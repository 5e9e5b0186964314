/** Direct transfers: large bodies go straight between a client and this shard, on a ticket that it makes for a request which Envoy has let in. */
import { createSecretKey, randomBytes } from 'node:crypto';
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { ReadPlan } from './conditions.ts';
import type { Terms } from './object-request.ts';
import { ticketTarget } from './target.ts';
import { openTicket, sealTicket, type Ticket, type Transfer } from './ticket.ts';

type DirectRequest = Transfer & Terms;

interface DirectOptions {
  /** `host:port` by which clients reach this shard. */
  readonly address: () => string;
  /** Smaller bodies cost less through Envoy than a second request. */
  readonly minBytes: number;
  readonly lifeMs: number;
  /** In milliseconds, on a clock that is never put back. */
  readonly now: () => number;
}

type Redeemed = { readonly kind: 'used'; readonly terms: Terms } | { readonly kind: 'refused' } | { readonly kind: 'expired' };

/** Uploads that were sent here and have not come; beyond it they go through Envoy. */
const maxUploads = 65_536;

export class Direct {
  readonly #options: DirectOptions;
  /** Never leaves this process: tickets end with it. As a Buffer it would be made a key anew for each HMAC, for 16 of its 19 µs. */
  readonly #secret = createSecretKey(randomBytes(32));
  /** By nonce, when their tickets end; the oldest first. */
  readonly #uploads = new Map<string, number>();

  constructor(options: DirectOptions) {
    this.#options = options;
  }

  /** Where a GET goes on; undefined when it is to be answered here, as whatever has no body is. */
  locateRead(request: DirectRequest, object: OpenObject, plan: ReadPlan): string | undefined {
    const hasBody = request.method === 'GET' && (plan.kind === 'whole' || plan.kind === 'part');
    if (!hasBody || !this.#isWanted(request, object.length)) return undefined;
    return this.#locate(request, { version: object.tag, nonce: undefined, endsMs: this.#nextEnd() });
  }

  /** Where a PUT goes on whose sender waits for leave to send; undefined when it is to be taken here. `length` is undefined for a chunked body. */
  locateUpload(request: DirectRequest, length = Number.POSITIVE_INFINITY): string | undefined {
    if (!this.#isWanted(request, length)) return undefined;
    const now = this.#options.now();
    for (const [nonce, endsMs] of this.#uploads) {
      if (endsMs > now) break;
      this.#uploads.delete(nonce);
    }
    if (this.#uploads.size >= maxUploads) return undefined;
    const [nonce, endsMs] = [randomBytes(12).toString('base64url'), this.#nextEnd()];
    this.#uploads.set(nonce, endsMs);
    return this.#locate(request, { version: undefined, nonce, endsMs });
  }

  /** Lets a transfer in: a GET as often as it comes in time, a PUT once. */
  redeem({ method, key }: { readonly method: string; readonly key: Key | undefined }, sealed: string): Redeemed {
    if (key === undefined) return { kind: 'refused' };
    const ticket = openTicket(this.#secret, { method, key }, sealed);
    if (ticket === undefined) return { kind: 'refused' };
    const { endsMs, nonce, ...caller } = ticket;
    if (endsMs <= this.#options.now()) return { kind: 'expired' };
    if (nonce !== undefined && !this.#uploads.delete(nonce)) return { kind: 'refused' };
    return { kind: 'used', terms: { ...caller, route: 'ticket' } };
  }

  #isWanted({ route }: Terms, bytes: number): boolean {
    return route === 'direct' && bytes >= this.#options.minBytes;
  }

  #nextEnd(): number {
    return Math.ceil(this.#options.now() + this.#options.lifeMs);
  }

  #locate(request: DirectRequest, about: Pick<Ticket, 'version' | 'nonce' | 'endsMs'>): string {
    const ticket = sealTicket(this.#secret, request, { ...request, ...about });
    return `http://${this.#options.address()}${ticketTarget(ticket, request.key)}`;
  }
}
