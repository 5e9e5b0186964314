/** Delays the requests of namespaces with rate limits. */
import type { Limits } from '../policy/document.ts';
import type { Excess, NamespaceRates } from './rate.ts';

/** Maximum number of delayed requests of one namespace. Each is an open call of Envoy. Further requests are not delayed. */
const maxHeld = 200;
/** Envoy allows 1 s for a check, and a part of it has passed before a request is counted. */
const maxAnswerMs = 900;

/**
 * Resolves when a request of the namespace that started `sinceMs` ago may be answered. Returns the exceeded limit, or undefined for an
 * admitted request.
 */
export type Throttle = (namespace: string, limits: Limits, sinceMs: number) => Promise<Excess | undefined>;

export function createThrottle({
  rates,
  delay,
}: {
  rates: Pick<NamespaceRates, 'admit'>;
  delay: (ms: number) => Promise<unknown>;
}): Throttle {
  const held = new Map<string, number>();
  return async (namespace, limits, sinceMs) => {
    const { holdSeconds, excess } = rates.admit(namespace, limits);
    const holdMs = Math.min(holdSeconds * 1000, maxAnswerMs - sinceMs);
    const others = held.get(namespace) ?? 0;
    if (holdMs <= 0 || others >= maxHeld) return excess;
    held.set(namespace, others + 1);
    try {
      await delay(holdMs);
    } finally {
      const left = (held.get(namespace) ?? 1) - 1;
      if (left > 0) held.set(namespace, left);
      else held.delete(namespace);
    }
    return excess;
  };
}
