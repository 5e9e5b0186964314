/** Holds requests of limited namespaces back until their turn comes. */
import type { Limits } from '../policy/document.ts';
import type { Excess, NamespaceRates } from './rate.ts';

/** Of one namespace; each is an open call of Envoy. Beyond this nobody waits. */
const maxHeld = 200;
/** Envoy gives a check 1 s, and some of it is gone before a request is counted. */
const maxAnswerMs = 900;

/** Resolves when a request of the namespace, asked `sinceMs` ago, may be answered: with the limit that it exceeds, or undefined where it is let in. */
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
