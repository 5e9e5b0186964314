/** The one logger of a process: pino, JSON lines on standard output. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** `service` is on every line. What is passed to the logger must never hold a token or a part or hash of one. */
export function createLogger({ service, level }: { service: string; level: string }): Logger {
  return pino({
    level,
    base: { service },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  });
}
