/** What every command of `kura` gets and returns. */
import type { Readable } from 'node:stream';
import { InvalidArgumentError } from 'commander';
import type { Terminal } from '../output/terminal.ts';
import type { FileName } from '../transfer/file-name.ts';

/** The environment in which a command runs. */
export interface CommandContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folder in which the user typed the command; relative paths start here. */
  readonly workingDirectory: string;
  readonly homeDirectory: string;
  /** The bytes of an argument that is not UTF-8; other text is returned as it is. */
  readonly bytesOf: (text: string) => FileName;
  /** The command as the user can type it again. */
  readonly command: string;
  readonly stdin: Readable;
  /** Receives results. */
  readonly terminal: Terminal;
  /** Receives progress and errors of the commands whose result is data. */
  readonly errorTerminal: Terminal;
  readonly signal: AbortSignal;
}

/** The exit statuses of `kura`. */
export const exitStatuses = {
  success: 0,
  /** Requests failed, or bytes differed. */
  failure: 1,
  /** The command could not start, or the server did not respond for 10 s. */
  usage: 2,
  /** The cache does not have the object. */
  miss: 3,
  interrupted: 130,
} as const;

/** Runs a command's action, prints its error in one line, and sets the exit status that the action resolves with. */
export type RunAction = (action: () => Promise<number>) => Promise<void>;

/** One word of a shell. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Prints why a command waits for the server. */
export function reportTo(errorTerminal: Terminal, verb: string): (line: string) => void {
  return (line) => errorTerminal.print(`kura ${verb}: ${line}`);
}

/** Parses an option that is a whole number from 1 to `max`. */
export function count({ max }: { max: number }): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < 1 || number > max) throw new InvalidArgumentError(`It must be a whole number from 1 to ${max}.`);
    return number;
  };
}
