/** Asks the shard of a key, through Envoy, to fetch the object. Each request is signed for the caller of its job. */
import type { KeyObject } from 'node:crypto';
import { Agent } from 'undici';
import { type FillTerms, type SignedCaller, type SignedTerms, signHeaders } from '../../shared/signed-terms.ts';
import type { FailureReason } from '../metrics.ts';

/** Which limits the fills of a job have. */
export interface FillCaller {
  readonly caller: SignedCaller;
  readonly terms: Pick<SignedTerms, 'maxObjectBytes' | 'maxShare'> & { readonly fill: FillTerms };
}

interface FillClientOptions {
  /** Base URL of the listener `fill` of Envoy. */
  readonly url: string;
  readonly maxConnections: number;
  /** The first one signs. Undefined: nothing is signed. */
  readonly keys: () => readonly KeyObject[] | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

export type FillResult =
  | { readonly kind: 'fetched' | 'present'; readonly bytes: number }
  | { readonly kind: 'failed'; readonly reason: FailureReason }
  /** Another try can help. */
  | { readonly kind: 'fault'; readonly reason: FailureReason; readonly retryAfterMs: number }
  /** The shard or the origin has no room for another fill. */
  | { readonly kind: 'busy'; readonly retryAfterMs: number };

/** From the signature until the shard has verified it and asked the origin service, and for different clocks. */
const signatureSeconds = 120;
/** Envoy limits a fill to 1 h and responds itself. */
const maxFillMs = 3_605_000;
const maxConnectMs = 5_000;
const minRetryAfterMs = 1_000;
const maxRetryAfterMs = 30_000;

export class FillClient {
  readonly #options: FillClientOptions;
  readonly #agent: Agent;

  constructor(options: FillClientOptions) {
    this.#options = options;
    this.#agent = new Agent({
      connections: options.maxConnections,
      pipelining: 1,
      headersTimeout: maxFillMs,
      connect: { timeout: maxConnectMs },
    });
  }

  /** Resolves when the shard has the whole object, or cannot get it. Rejects only when the signal aborts. */
  async fill(key: string, from: FillCaller, signal: AbortSignal): Promise<FillResult> {
    try {
      const { statusCode, headers, body } = await this.#agent.request({
        origin: this.#options.url,
        method: 'HEAD',
        path: `/through/${key}`,
        headers: this.#sign(from),
        signal,
      });
      await body.dump();
      return resultOf(statusCode, headers);
    } catch {
      signal.throwIfAborted();
      return { kind: 'fault', reason: 'no-response', retryAfterMs: minRetryAfterMs };
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  #sign({ caller, terms: { maxObjectBytes, maxShare, fill } }: FillCaller): Record<string, string> {
    const expiresAtSeconds = Math.ceil(this.#options.now() / 1000) + signatureSeconds;
    const terms = { maxObjectBytes, maxShare, mayRedirect: false, fill: { ...fill, isPrefetch: true }, expiresAtSeconds };
    const signed = signHeaders(this.#options.keys()?.[0], caller, terms);
    return { 'x-kura-caller': signed.caller, 'x-kura-terms': signed.terms };
  }
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/** Faults of the origin that another try cannot end, by problem code. */
const permanentFaults: Readonly<Record<string, FailureReason>> = {
  'origin-refused': 'origin-refused',
  'origin-no-length': 'origin-no-length',
  'origin-too-large': 'too-large',
};

/** The status decides, and for a fault of the origin the problem code. A response to HEAD has it in a header, because it has no body. */
function resultOf(status: number, headers: Headers): FillResult {
  const bytes = Number(headers['content-length'] ?? 0);
  const retryAfterMs = retryAfterOf(headers);
  switch (status) {
    case 200:
      if (headers['x-kura-stored'] === 'no') return { kind: 'failed', reason: 'not-stored' };
      return { kind: headers['x-kura-cache'] === 'hit' ? 'present' : 'fetched', bytes };
    case 404:
      return { kind: 'failed', reason: 'origin-miss' };
    case 413:
      return { kind: 'failed', reason: 'too-large' };
    case 507:
      return { kind: 'failed', reason: 'no-room' };
    case 503:
      return { kind: 'busy', retryAfterMs };
    case 401:
    case 403:
      return { kind: 'fault', reason: 'rejected', retryAfterMs };
    case 502: {
      const reason = permanentFaults[String(headers['x-kura-problem'])];
      return reason === undefined ? { kind: 'fault', reason: 'origin-failed', retryAfterMs } : { kind: 'failed', reason };
    }
    case 504:
      return { kind: 'fault', reason: 'no-response', retryAfterMs };
    default:
      return { kind: 'failed', reason: 'other' };
  }
}

function retryAfterOf(headers: Headers): number {
  const seconds = Number(headers['retry-after']);
  return Number.isFinite(seconds) ? Math.min(maxRetryAfterMs, Math.max(minRetryAfterMs, seconds * 1000)) : minRetryAfterMs;
}
