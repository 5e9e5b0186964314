import { setTimeout as delay } from 'node:timers/promises';

const pollMs = 50;
const answerLimitMs = 1_000;

/** Undefined when `url` answers 2xx; otherwise why not, in a line. */
export async function whyNotReady(url: string): Promise<string | undefined> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(answerLimitMs) });
    const text = await answer.text();
    return answer.ok ? undefined : text.trim().split('\n', 1)[0] || `status ${answer.status}`;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Asks until `url` answers 2xx; when `signal` aborts before, the last reason why it does not. */
export async function untilReady(url: string, signal: AbortSignal): Promise<string | undefined> {
  for (;;) {
    const reason = await whyNotReady(url);
    if (reason === undefined || signal.aborted) return reason;
    await delay(pollMs, undefined, { signal }).catch(() => undefined);
  }
}
