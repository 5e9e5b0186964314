/** Admits or rejects a request. Its terms come from the signed headers of authz or from a ticket. */
import type { Key } from '../../shared/key.ts';
import type { Route, Terms } from './object-request.ts';
import type { ProblemCode } from './problems.ts';
import type { ObjectService } from './service.ts';

/** The parts of a request that admission checks. */
export interface Applicant {
  readonly method: string;
  /** Undefined if the target has no key. */
  readonly key: Key | undefined;
  readonly ticket: string | undefined;
  /** The received value of `x-kura-caller`. */
  readonly caller: string | undefined;
  /** The received value of `x-kura-terms`. */
  readonly terms: string | undefined;
  readonly route: Route;
}

type Refusal = Extract<ProblemCode, 'bad-caller' | 'bad-ticket' | 'no-such-path'>;

/** Returns the terms of the request, or the code of the problem. */
export function admit(service: ObjectService, applicant: Applicant): Terms | Refusal {
  const { callers, direct, counters } = service;
  if (applicant.ticket !== undefined && direct !== undefined) {
    const redeemed = direct.redeem(applicant, applicant.ticket);
    counters.tickets[redeemed.kind] += 1;
    return redeemed.kind === 'used' ? redeemed.terms : 'bad-ticket';
  }
  const known = callers.identify(applicant.caller, applicant.terms);
  if (typeof known === 'string') {
    counters.badCallers[known] += 1;
    return 'bad-caller';
  }
  // A shard without an address for clients issues no tickets.
  if (applicant.ticket !== undefined) return 'no-such-path';
  return applicant.route === 'direct' || applicant.route === 'through' ? known[applicant.route] : known.objects;
}
