import type { Writable } from 'node:stream';

/** Where a command's words go. */
export interface Terminal {
  readonly out: Writable;
  /** Whether `out` can show a moving bar. */
  readonly isTerminal: boolean;
  say(line: string): void;
}

export function createTerminal(out: Writable & { readonly isTTY?: boolean }): Terminal {
  return { out, isTerminal: out.isTTY === true, say: (line) => void out.write(`${line}\n`) };
}
