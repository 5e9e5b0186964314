/** Direct transfers: large bodies go straight between a client and this shard, on a ticket that it makes for a request which Envoy has let in. */
import { createSecretKey, randomBytes } from 'node:crypto';
import type { Key } from '../../shared/key.ts';
import type { OpenObject } from '../store/open-object.ts';
import type { ReadPlan } from './conditions.ts';
import { ticketTarget } from './target.ts';
import { type Caller, openTicket, sealTicket, type Ticket } from './ticket.ts';

/** A request as both HTTP edges read it. */
export interface Asked extends Caller {
  readonly method: string;
  readonly key: Key;
  /** The one version that a ticket opens. */
  readonly version: string | undefined;
  /** `direct` may be sent elsewhere, `ticket` is where it was sent to. */
  readonly way: 'objects' | 'direct' | 'ticket';
}

interface DirectOptions {
  /** `host:port` by which clients reach this shard. */
  readonly address: () => string;
  /** Smaller bodies cost less through Envoy than a second request. */
  readonly minBytes: number;
  readonly lifeMs: number;
  /** In milliseconds, on a clock that is never put back. */
  readonly now: () => number;
}

type Redeemed = { readonly kind: 'used'; readonly asked: Asked } | { readonly kind: 'refused' } | { readonly kind: 'expired' };

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
  locateRead(asked: Asked, object: OpenObject, plan: ReadPlan): string | undefined {
    const hasBody = asked.method === 'GET' && (plan.kind === 'whole' || plan.kind === 'part');
    if (!hasBody || !this.#isWanted(asked, object.length)) return undefined;
    return this.#locate(asked, { version: object.tag, nonce: undefined, endsMs: this.#nextEnd() });
  }

  /** Where a PUT goes on whose sender waits for leave to send; undefined when it is to be taken here. `length` is undefined for a chunked body. */
  locateUpload(asked: Asked, length = Number.POSITIVE_INFINITY): string | undefined {
    if (!this.#isWanted(asked, length)) return undefined;
    const now = this.#options.now();
    for (const [nonce, endsMs] of this.#uploads) {
      if (endsMs > now) break;
      this.#uploads.delete(nonce);
    }
    if (this.#uploads.size >= maxUploads) return undefined;
    const [nonce, endsMs] = [randomBytes(12).toString('base64url'), this.#nextEnd()];
    this.#uploads.set(nonce, endsMs);
    return this.#locate(asked, { version: undefined, nonce, endsMs });
  }

  /** Lets a transfer in: a GET as often as it comes in time, a PUT once. */
  redeem({ method, key }: { readonly method: string; readonly key: Key | undefined }, sealed: string): Redeemed {
    if (key === undefined) return { kind: 'refused' };
    const ticket = openTicket(this.#secret, { method, key }, sealed);
    if (ticket === undefined) return { kind: 'refused' };
    const { endsMs, nonce, ...about } = ticket;
    if (endsMs <= this.#options.now()) return { kind: 'expired' };
    if (nonce !== undefined && !this.#uploads.delete(nonce)) return { kind: 'refused' };
    return { kind: 'used', asked: { ...about, method, key, way: 'ticket' } };
  }

  #isWanted({ way }: Asked, bytes: number): boolean {
    return way === 'direct' && bytes >= this.#options.minBytes;
  }

  #nextEnd(): number {
    return Math.ceil(this.#options.now() + this.#options.lifeMs);
  }

  #locate(asked: Asked, about: Pick<Ticket, 'version' | 'nonce' | 'endsMs'>): string {
    const ticket = sealTicket(this.#secret, asked, { ...asked, ...about });
    return `http://${this.#options.address()}${ticketTarget(ticket, asked.key)}`;
  }
}
