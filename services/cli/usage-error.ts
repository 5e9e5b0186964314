/** A command cannot begin; the message is one line for the user. */
export class UsageError extends Error {
  readonly code = 'USAGE';
}
