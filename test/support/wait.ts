import { setTimeout as delay } from 'node:timers/promises';

/**
 * Polls `condition` until it returns a value other than undefined or false, and returns that value. A condition that throws is not yet
 * true. After the deadline, the message has the last error.
 */
export async function waitFor<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  { withinMs = 60_000, everyMs = 20 }: { withinMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + withinMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline) {
      const reason = cause instanceof Error ? `: ${cause.message}` : '';
      throw new Error(`not within ${withinMs} ms: ${what}${reason}`, { cause });
    }
    await delay(everyMs);
  }
}
