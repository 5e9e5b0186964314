import { setTimeout as delay } from 'node:timers/promises';

const retryIntervalMs = 500;

/** Runs `attempt` until it succeeds or `signal` aborts. Only the first failure is reported, because `attempt` runs twice a second. */
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
      await delay(retryIntervalMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
