/** A command cannot begin; the message is one line for the user. */
export class UsageError extends Error {
  readonly code = 'USAGE';
}

/** What goes wrong in `work` is the user's to mend: a file that is not there, for instance. */
export function orUsageError<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: Error) => {
    throw new UsageError(error.message, { cause: error });
  });
}
