/** The life of a service process: start, tell the parent where it listens, run until a signal, close in good order. */
import { SettingsError } from './environment.ts';
import type { Logger } from './log.ts';

export interface Running {
  /** Where the service listens, by name (`objects`, `grpc`, `metrics`, …), each `host:port` or a socket's path. */
  readonly listening: Readonly<Record<string, string>>;
  /** Finishes what is in flight and gives back everything that was opened. Called once. */
  close(): Promise<void>;
}

/** What a process started with an IPC channel tells its parent once it serves. */
export interface ListeningMessage {
  readonly kind: 'listening';
  readonly listening: Readonly<Record<string, string>>;
}

/**
 * Runs one service process. A bad setting ends it with one line on standard error and status 2; any other fault at start or later with a log line and
 * status 1. SIGTERM or SIGINT closes it and ends with 0; a second signal ends it at once.
 */
export async function runService(start: () => Promise<{ running: Running; log: Logger }>): Promise<void> {
  let stop = (_signal: NodeJS.Signals): void => process.exit(0);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal));
  let started: { running: Running; log: Logger };
  try {
    started = await start();
  } catch (error) {
    if (error instanceof SettingsError) {
      console.error(error.message);
      process.exit(2);
    }
    console.error(error);
    process.exit(1);
  }
  const { running, log } = started;
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'unexpected fault');
    process.exit(1);
  });
  log.info({ listening: running.listening }, 'ready');
  const message: ListeningMessage = { kind: 'listening', listening: running.listening };
  process.send?.(message);

  const signal = await new Promise<NodeJS.Signals>((resolve) => {
    stop = resolve;
  });
  stop = () => process.exit(1);
  log.info({ signal }, 'stopping');
  await running.close();
  log.info('stopped');
  process.exit(0);
}
