/** The logger of a process: pino with JSON lines on standard output. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** Every line contains `service`. Never pass a token to the logger, nor a part or a hash of one. */
export function createLogger({ service, level }: { service: string; level: string }): Logger {
  return pino({
    level,
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
