/** The signed headers of a caller, as authz creates them. */
import { createSecretKey } from 'node:crypto';
import { type FillTerms, type SignedCaller, type SignedTerms, signHeaders } from '../../services/shared/signed-terms.ts';

interface CallerOptions extends Partial<SignedCaller>, Partial<Omit<SignedTerms, 'fill'>> {
  /** Name of the origin, or the fill terms with it. */
  readonly fill?: string | ({ readonly origin: string } & Partial<FillTerms>);
  /** The line of a credential file that signs. Without it the terms have no signature. */
  readonly credential?: string;
}

export interface CallerHeaders {
  readonly 'x-kura-caller': string;
  readonly 'x-kura-terms': string;
}

/** Without options: vision/trainer without a Pod and without limits, valid for a minute. */
export function callerHeaders({ credential, ...changes }: CallerOptions = {}): CallerHeaders {
  const key = credential === undefined ? undefined : createSecretKey(Buffer.from(credential, 'latin1'));
  const {
    namespace = 'vision',
    serviceAccount = 'trainer',
    pod,
    maxObjectBytes = 2 ** 40,
    maxShare,
    mayRedirect = true,
    fill,
    mayManage,
  } = changes;
  const { expiresAtSeconds = Math.ceil(Date.now() / 1000) + 60 } = changes;
  const signed = signHeaders(
    key,
    { namespace, serviceAccount, pod },
    { maxObjectBytes, maxShare, mayRedirect, fill: fillTerms(fill), ...(mayManage === true ? { mayManage } : {}), expiresAtSeconds },
  );
  return { 'x-kura-caller': signed.caller, 'x-kura-terms': signed.terms };
}

function fillTerms(fill: CallerOptions['fill']): FillTerms | undefined {
  if (fill === undefined) return undefined;
  const usual = { share: undefined, revalidateSeconds: undefined, isPrefetch: false };
  return typeof fill === 'string' ? { ...usual, origin: fill } : { ...usual, ...fill };
}
