/** Direct transfers: a client transfers a large body without Envoy. The shard redirects a request from Envoy to itself, with a ticket. */
import { createSecretKey, randomBytes } from 'node:crypto';
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { ReadPlan } from './conditions.ts';
import type { Terms } from './object-request.ts';
import { ticketTarget } from './target.ts';
import { openTicket, sealTicket, type Ticket, type Transfer } from './ticket.ts';

type DirectRequest = Transfer & Terms;

interface DirectOptions {
  /** `host:port` at which clients reach this shard. */
  readonly address: () => string;
  /** Smaller bodies are not redirected, because the second request costs more than the transfer through Envoy. */
  readonly minBytes: number;
  readonly lifeMs: number;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

type Redeemed = { readonly kind: 'used'; readonly terms: Terms } | { readonly kind: 'refused' } | { readonly kind: 'expired' };

/** Unused tickets for PUT. Further uploads go through Envoy. */
const maxUploads = 65_536;

export class Direct {
  readonly #options: DirectOptions;
  /** Stays in this process, so a restart invalidates all tickets. A Buffer would need a conversion of 16 µs for each HMAC of 3 µs. */
  readonly #secret = createSecretKey(randomBytes(32));
  /** Expiry of each unused ticket for PUT, by nonce. The oldest ticket is first. */
  readonly #uploads = new Map<string, number>();

  constructor(options: DirectOptions) {
    this.#options = options;
  }

  /** Returns the location of a redirect for a GET. Undefined: send the response here, for example because it has no body. */
  locateRead(request: DirectRequest, object: OpenObject, plan: ReadPlan): string | undefined {
    const hasBody = request.method === 'GET' && (plan.kind === 'whole' || plan.kind === 'part');
    if (!hasBody || !this.#isWanted(request, object.length)) return undefined;
    return this.#locate(request, { version: object.tag, nonce: undefined, endsMs: this.#nextEnd() });
  }

  /** Returns the location for a PUT whose client waits for `100 Continue`. Undefined: receive it here. A chunked body has no `length`. */
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

  /** Checks a ticket. Until it expires, a ticket for GET is valid any number of times, and a ticket for PUT once. */
  redeem({ method, key }: { readonly method: string; readonly key: Key | undefined }, sealed: string): Redeemed {
    if (key === undefined) return { kind: 'refused' };
    const ticket = openTicket(this.#secret, { method, key }, sealed);
    if (ticket === undefined) return { kind: 'refused' };
    const { endsMs, nonce, ...caller } = ticket;
    if (endsMs <= this.#options.now()) return { kind: 'expired' };
    if (nonce !== undefined && !this.#uploads.delete(nonce)) return { kind: 'refused' };
    return { kind: 'used', terms: { ...caller, route: 'ticket', fill: undefined } };
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
