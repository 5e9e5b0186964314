/** The console of a local system: each log line of a process with its name in front, and the messages of the system itself. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { styleText } from 'node:util';
import { prettyFactory } from 'pino-pretty';

const colours = ['cyan', 'magenta', 'yellow', 'blue', 'green', 'cyanBright', 'magentaBright', 'yellowBright'] as const;
const nameWidth = 14;

export interface Console {
  /** Prints one message of the system itself. */
  print(line: string): void;
  /** Prints each line of a process's output. JSON lines are pino log entries. */
  follow(name: string, output: Readable): void;
}

/** `colour` enables terminal colours. */
export function createConsole({ out, colour }: { out: Writable; colour: boolean }): Console {
  const pretty = prettyFactory({ colorize: colour, singleLine: true, ignore: 'service,pid,hostname', translateTime: 'SYS:HH:MM:ss.l' });
  const paint = (format: Parameters<typeof styleText>[0], text: string): string =>
    colour ? styleText(format, text, { validateStream: false }) : text;
  const prefixes = new Map<string, string>();
  const prefix = (name: string): string => {
    const known = prefixes.get(name);
    if (known !== undefined) return known;
    const painted = paint(colours[prefixes.size % colours.length] as (typeof colours)[number], `${name.padEnd(nameWidth)}│ `);
    prefixes.set(name, painted);
    return painted;
  };
  return {
    print: (line) => void out.write(`${paint('bold', line)}\n`),
    follow: (name, output) => {
      createInterface({ input: output }).on('line', (line) => {
        const shown = line.startsWith('{') ? (pretty(line) as string).trimEnd() : line;
        out.write(`${prefix(name)}${shown}\n`);
      });
    },
  };
}
