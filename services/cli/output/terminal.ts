import type { Writable } from 'node:stream';

/** Where a command prints. */
export interface Terminal {
  readonly out: Writable;
  /** Whether `out` can show a moving progress bar. */
  readonly isTerminal: boolean;
  /** The width of a line; it changes with the window. */
  readonly columns: number;
  print(line: string): void;
}

const defaultColumns = 80;

export function createTerminal(out: Writable & { readonly isTTY?: boolean; readonly columns?: number }): Terminal {
  return {
    out,
    isTerminal: out.isTTY === true,
    get columns() {
      return out.columns || defaultColumns;
    },
    print: (line) => void out.write(`${line}\n`),
  };
}
