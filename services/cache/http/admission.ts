/** Decides whether a request may go further, and on which terms: those of Envoy's headers, or those of a ticket. */
import type { Key } from '../../shared/key.ts';
import type { Terms } from './object-request.ts';
import type { ProblemCode } from './problems.ts';
import type { ObjectService } from './service.ts';

/** What admission looks at. The terms are those of the headers, which only a request with Envoy's credential may set. */
export interface Applicant extends Terms {
  readonly method: string;
  /** Undefined where the target names none. */
  readonly key: Key | undefined;
  readonly ticket: string | undefined;
  readonly credential: string | undefined;
}

type Refusal = Extract<ProblemCode, 'bad-credential' | 'bad-ticket' | 'no-such-path'>;

/** Returns the terms of the request, or the code of its refusal. */
export function admit(service: ObjectService, applicant: Applicant): Terms | Refusal {
  const { credentials, direct, counters } = service;
  if (applicant.ticket !== undefined && direct !== undefined) {
    const redeemed = direct.redeem(applicant, applicant.ticket);
    counters.tickets[redeemed.kind] += 1;
    return redeemed.kind === 'used' ? redeemed.terms : 'bad-ticket';
  }
  if (!credentials.accepts(applicant.credential)) {
    counters.badCredentials += 1;
    return 'bad-credential';
  }
  // A shard without an address for clients makes no tickets.
  return applicant.ticket === undefined ? applicant : 'no-such-path';
}
