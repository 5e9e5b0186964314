import { setTimeout as delay } from 'node:timers/promises';

const retryMs = 500;

/**
 * Runs `attempt` until it succeeds or `signal` aborts. A failure is told once, through `report`, and again only after a success in between is no
 * longer true: nobody wants the same line twice a second.
 */
export async function untilDone({
  attempt,
  report,
  signal,
}: {
  attempt: () => Promise<void>;
  report: (error: Error) => void;
  signal: AbortSignal;
}): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      await attempt();
      return;
    } catch (error) {
      if (failures === 0 && !signal.aborted) report(error as Error);
      await delay(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
