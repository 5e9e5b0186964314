/** Reads the tables of a README. */
import { readFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..', '..');

/** `folder` is a path such as `services/authz`. */
export function readReadme(folder: string): string {
  return readFileSync(path.join(root, folder, 'README.md'), 'utf8');
}

/** The cells, without backticks, of each row whose first cell is code that matches `first`. */
export function tableRows(readme: string, first: RegExp): string[][] {
  return readme
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf('|'))
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replace(/^`([^`]*)`$/, '$1')),
    )
    .filter(([cell]) => first.test(cell as string));
}
