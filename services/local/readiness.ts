import { setTimeout as delay } from 'node:timers/promises';

const pollIntervalMs = 50;
const responseTimeoutMs = 1_000;

/** Returns undefined if `url` returns 2xx, otherwise the reason in one line. */
export async function whyNotReady(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(responseTimeoutMs) });
    const text = await response.text();
    return response.ok ? undefined : text.trim().split('\n', 1)[0] || `status ${response.status}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Polls until `url` returns 2xx. If `signal` aborts first, returns the last reason. */
export async function untilReady(url: string, signal: AbortSignal): Promise<string | undefined> {
  for (;;) {
    const reason = await whyNotReady(url);
    if (reason === undefined || signal.aborted) return reason;
    await delay(pollIntervalMs, undefined, { signal }).catch(() => undefined);
  }
}
