/** The life of a service process: start, report to the parent where it listens, run until a signal, close in good order. */
import { SettingsError } from './environment.ts';
import { createLogger, type Logger } from './log.ts';

export interface Running {
  /** Where the service listens, by name (`objects`, `grpc`, `metrics`, …), each `host:port` or a socket's path. */
  readonly listening: Readonly<Record<string, string>>;
  /** Finishes what is in flight and gives back everything that was opened. Called once. */
  close(): Promise<void>;
}

/** The message of a process with an IPC channel to its parent, once it serves. */
export interface ListeningMessage {
  readonly kind: 'listening';
  readonly listening: Readonly<Record<string, string>>;
}

/**
 * Runs one service process. A bad setting ends it with one line on standard error and status 2; any other fault at start or later with a log line and
 * status 1. SIGTERM or SIGINT closes it and ends with 0, or with a log line and 1 when a part cannot be closed; a second signal ends it at once. `service`
 * names the process in the log when it has no logger yet.
 */
export async function runService(service: string, start: () => Promise<{ running: Running; log: Logger }>): Promise<void> {
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
    createLogger({ service, level: 'fatal' }).fatal({ err: error }, 'the service cannot start');
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
  try {
    await running.close();
  } catch (error) {
    log.error({ err: error }, 'stopped, but not in good order');
    process.exit(1);
  }
  log.info('stopped');
  process.exit(0);
}
