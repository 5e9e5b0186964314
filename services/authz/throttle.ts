/** Holds requests of limited namespaces back until their turn comes. */
import type { Limits } from './policy-document.ts';
import type { Excess, NamespaceRates } from './rate.ts';

/** Each is an open call of Envoy; beyond this nobody waits. */
const mostHeld = 1_000;

/** Resolves when a request of the namespace may be answered: with the limit that it exceeds, or undefined where it is let in. */
export type Throttle = (namespace: string, limits: Limits) => Promise<Excess | undefined>;

export function createThrottle({
  rates,
  delay,
}: {
  rates: Pick<NamespaceRates, 'admit'>;
  delay: (ms: number) => Promise<unknown>;
}): Throttle {
  let held = 0;
  return async (namespace, limits) => {
    const { holdSeconds, excess } = rates.admit(namespace, limits);
    if (holdSeconds === 0 || held >= mostHeld) return excess;
    held += 1;
    try {
      await delay(holdSeconds * 1000);
    } finally {
      held -= 1;
    }
    return excess;
  };
}
