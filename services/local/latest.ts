import type { Console } from './console.ts';
import { untilDone } from './retry.ts';

/** Brings a changing value somewhere: always the newest, one attempt at a time, again and again until it has arrived. */
interface Latest<T> {
  set(value: T): void;
  /** Resolves when the newest value has arrived. */
  settled(): Promise<void>;
}

/** `what` names the value in the line that reports a failure. Stops when `signal` aborts. */
export function publishLatest<T>({
  what,
  publish,
  console,
  signal,
}: {
  what: string;
  publish: (value: T) => Promise<void>;
  console: Console;
  signal: AbortSignal;
}): Latest<T> {
  let newest: { readonly value: T } | undefined;
  let work: Promise<void> = Promise.resolve();
  let isWorking = false;
  const drain = async (): Promise<void> => {
    isWorking = true;
    while (newest !== undefined && !signal.aborted) {
      const report = (error: Error): void => console.say(`cannot publish ${what} yet: ${error.message.split('\n', 1)[0]}`);
      await untilDone({
        attempt: async () => {
          const taken = newest as { readonly value: T };
          await publish(taken.value);
          if (newest === taken) newest = undefined;
        },
        report,
        signal,
      });
    }
    isWorking = false;
  };
  return {
    set: (value) => {
      newest = { value };
      if (!isWorking) work = drain();
    },
    settled: () => work,
  };
}
