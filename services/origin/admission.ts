/** Accepts requests of shards, which pass on the two signed headers of their caller. */

import type { KeyObject } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { type FillTerms, readHeaders, type SignedCaller, type SignedTerms } from '../shared/signed-terms.ts';

interface AdmissionOptions {
  /** Undefined: signatures are not checked. */
  readonly keys: () => readonly KeyObject[] | undefined;
  /** In milliseconds since the epoch. */
  readonly now: () => number;
}

export interface Admitted {
  readonly caller: SignedCaller;
  readonly terms: SignedTerms;
  /** The origin that the caller may use. */
  readonly fill: FillTerms | undefined;
}

export class Admission {
  readonly #options: AdmissionOptions;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Undefined for headers that are missing, forged, malformed or expired. */
  admit(headers: IncomingHttpHeaders): Admitted | undefined {
    const [caller, terms] = [headers['x-kura-caller'], headers['x-kura-terms']];
    if (typeof caller !== 'string' || typeof terms !== 'string') return undefined;
    const read = readHeaders(this.#options.keys(), { caller, terms });
    if (read.kind !== 'good' || read.terms.expiresAtSeconds * 1000 <= this.#options.now()) return undefined;
    return { caller: read.caller, terms: read.terms, fill: read.terms.fill };
  }
}
