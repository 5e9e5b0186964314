/** Pure: failures of the connection to the server, which a later try may not see. */
import { UsageError } from '../usage-error.ts';

const codes: ReadonlySet<string> = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ETIMEDOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_SOCKET',
]);

/** Whether the connection failed, and not a file or the program. */
export function isConnectionFault(error: unknown): boolean {
  return codes.has((error as NodeJS.ErrnoException).code ?? '');
}

/** The server does not respond to any request, so the command ends. */
export class UnreachableError extends UsageError {}
