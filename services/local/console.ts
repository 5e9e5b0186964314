/** The terminal of a local system: what its processes log, one line each, with the process's name in front, and what the system itself has to say. */
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { styleText } from 'node:util';
import { prettyFactory } from 'pino-pretty';

const colours = ['cyan', 'magenta', 'yellow', 'blue', 'green', 'cyanBright', 'magentaBright', 'yellowBright'] as const;
const nameWidth = 14;

export interface Console {
  /** One line of the system's own. */
  say(line: string): void;
  /** Shows each line of a process's output as it comes; lines of JSON are pino's. */
  follow(name: string, output: Readable): void;
}

/** `colour` is for a terminal; without it the text is plain. */
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
    say: (line) => void out.write(`${paint('bold', line)}\n`),
    follow: (name, output) => {
      createInterface({ input: output }).on('line', (line) => {
        const shown = line.startsWith('{') ? (pretty(line) as string).trimEnd() : line;
        out.write(`${prefix(name)}${shown}\n`);
      });
    },
  };
}
