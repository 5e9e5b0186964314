/** The time limits of a request for its waits for the disk. Their sums fit into the timeouts of Envoy (envoy/bootstrap.yaml). */
export interface TimeBudget {
  /** From a GET or HEAD to its first byte or its miss. */
  readonly firstByteMs: number;
  /** From the last byte of a PUT, or from a DELETE, to the response. */
  readonly commitMs: number;
  /** One read after the start of the response. */
  readonly readMs: number;
  /** One wait for the disk or for room in the middle of an upload. */
  readonly writeMs: number;
  /** From a GET or HEAD under `/through/` to its first byte, if the origin is asked. */
  readonly fillMs: number;
}

export const timeBudget: TimeBudget = {
  // Envoy tries the next shard after 0.75 s.
  firstByteMs: 500,
  // The timeout of Envoy is 1.4 s.
  commitMs: 1_100,
  readMs: 5_000,
  writeMs: 5_000,
  // The timeout of Envoy is 30 s.
  fillMs: 28_000,
};
