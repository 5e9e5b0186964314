/** How long a request may wait for the disk. The sums fit into the timeouts of Envoy (envoy/bootstrap.yaml). */
export interface TimeBudget {
  /** From a GET or HEAD to its first byte or its miss. */
  readonly firstByteMs: number;
  /** From the last byte of a PUT, or from a DELETE, to the response. */
  readonly commitMs: number;
  /** One read after the response has begun. */
  readonly readMs: number;
  /** The wait for the disk or for room in the middle of an upload. */
  readonly writeMs: number;
}

export const timeBudget: TimeBudget = {
  // Envoy asks the next shard after 0.75 s.
  firstByteMs: 500,
  // Envoy gives up after 1.4 s.
  commitMs: 1_100,
  readMs: 5_000,
  writeMs: 5_000,
};
