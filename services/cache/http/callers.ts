/** The callers whose signed headers this shard has verified. The text of the headers is the key, so a repeated caller costs one look-up. */
import type { KeyObject } from 'node:crypto';
import { ownCopy } from '../../shared/own-copy.ts';
import { readHeaders } from '../../shared/signed-terms.ts';
import type { Terms } from './object-request.ts';

/** Reason why a request has no verified caller. Also the label values of the metric. */
export type BadCaller = 'missing' | 'forged' | 'expired' | 'malformed';

interface CallersOptions {
  /** Each of these keys may verify a signature. Undefined: signatures are not checked, and a request without both headers is anonymous. */
  readonly keys: () => readonly KeyObject[] | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

/** The terms of a caller on each route. */
interface KnownCaller {
  readonly objects: Terms;
  readonly direct: Terms;
  readonly through: Terms;
  /** Whether it may list and remove what the shard stores. */
  readonly mayManage: boolean;
}

interface Verified extends KnownCaller {
  readonly caller: string;
  readonly endsMs: number;
}

/** Each worker thread of each Envoy sends new terms for a caller every few seconds. An entry takes about 800 bytes. */
const maxVerified = 16_384;

const nobody = { namespace: undefined, serviceAccount: undefined, pod: undefined };
const anonymous: KnownCaller = {
  objects: termsOf(nobody, 'objects'),
  direct: termsOf(nobody, 'direct'),
  through: termsOf(nobody, 'through'),
  mayManage: false,
};

export class Callers {
  readonly #options: CallersOptions;
  /** Keyed by the terms, because their signature covers the caller. The oldest entry is first. */
  readonly #verified = new Map<string, Verified>();
  /** The keys that have verified the entries. */
  #keys: readonly KeyObject[] | undefined;

  constructor(options: CallersOptions) {
    this.#options = options;
    this.#keys = options.keys();
  }

  /** Takes the values of `x-kura-caller` and `x-kura-terms`. */
  identify(caller: string | undefined, terms: string | undefined): KnownCaller | BadCaller {
    const keys = this.#options.keys();
    if (keys !== this.#keys) {
      // Signatures of a removed key must not stay valid.
      this.#verified.clear();
      this.#keys = keys;
    }
    if (caller === undefined || terms === undefined) return keys === undefined && caller === terms ? anonymous : 'missing';
    const known = this.#verified.get(terms);
    if (known !== undefined && known.caller === caller) return known.endsMs > this.#options.now() ? known : 'expired';
    return this.#verify(caller, terms);
  }

  #verify(caller: string, terms: string): KnownCaller | BadCaller {
    const read = readHeaders(this.#keys, { caller, terms });
    if (read.kind !== 'good') return read.kind;
    const { maxObjectBytes, maxShare, mayRedirect, fill, mayManage = false, expiresAtSeconds } = read.terms;
    const endsMs = expiresAtSeconds * 1000;
    if (endsMs <= this.#options.now()) return 'expired';
    const about = { ...read.caller, maxObjectBytes, maxShare };
    const [ownCaller, ownTerms] = [ownCopy(caller), ownCopy(terms)];
    const through = termsOf(about, 'through');
    const verified = {
      caller: ownCaller,
      endsMs,
      objects: termsOf(about, 'objects'),
      direct: termsOf(about, mayRedirect ? 'direct' : 'objects'),
      through: fill === undefined ? through : { ...through, fill: { ...fill, callerHeader: ownCaller, termsHeader: ownTerms } },
      mayManage,
    };
    if (this.#verified.size >= maxVerified) this.#verified.delete(this.#verified.keys().next().value as string);
    this.#verified.set(ownTerms, verified);
    return verified;
  }
}

function termsOf(about: Pick<Terms, 'namespace' | 'serviceAccount' | 'pod'> & Partial<Terms>, route: Terms['route']): Terms {
  const { namespace, serviceAccount, pod, maxObjectBytes, maxShare } = about;
  return { namespace, serviceAccount, pod, maxObjectBytes, maxShare, route, version: undefined, fill: undefined };
}
