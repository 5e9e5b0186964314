/** The life of a service process: starts, reports its addresses to the parent, runs until a signal, and closes all parts. */
import { SettingsError } from './environment.ts';
import { createLogger, type Logger } from './log.ts';

export interface Running {
  /** Addresses of the service by name (`objects`, `grpc`, `metrics`, …): each is `host:port` or the path of a socket. */
  readonly listening: Readonly<Record<string, string>>;
  /** Finishes the work in flight and closes all parts. Called once. */
  close(): Promise<void>;
}

/** The message that a process sends to its parent over IPC when it serves. */
export interface ListeningMessage {
  readonly kind: 'listening';
  readonly listening: Readonly<Record<string, string>>;
}

/**
 * Runs one service process. An invalid setting ends it with one line on standard error and status 2. Any other fault ends it with a log
 * line and status 1. SIGTERM or SIGINT closes it and ends with 0, or with a log line and 1 when a part cannot be closed. A second signal
 * ends it immediately. `service` names the process in the log until it has a logger.
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
    createLogger({ service, level: 'fatal' }).fatal({ err: error }, 'cannot start the service');
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
    log.error({ err: error }, 'stopped, but some parts could not be closed');
    process.exit(1);
  }
  log.info('stopped');
  process.exit(0);
}
