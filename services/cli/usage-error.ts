/** A command cannot start. The message is one line for the user. */
export class UsageError extends Error {
  readonly code = 'USAGE';
}

/** Turns a failure of `work` into a UsageError, for failures that the user can fix, such as a missing file. */
export function orUsageError<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: Error) => {
    throw new UsageError(error.message, { cause: error });
  });
}
