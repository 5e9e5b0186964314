import type { Writable } from 'node:stream';

/** Where a command prints. */
export interface Terminal {
  readonly out: Writable;
  /** Whether `out` can show a moving progress bar. */
  readonly isTerminal: boolean;
  print(line: string): void;
}

export function createTerminal(out: Writable & { readonly isTTY?: boolean }): Terminal {
  return { out, isTerminal: out.isTTY === true, print: (line) => void out.write(`${line}\n`) };
}
