/** Shared by the benches against nginx: options, folder, required programs and progress. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';

/** `-- --quick`: shorter runs and fewer objects. */
export const isQuick = process.argv.includes('--quick');
export const seconds = isQuick ? 2 : 4;
export const rounds = isQuick ? 1 : 3;
const only = process.argv
  .find((argument) => argument.startsWith('--only='))
  ?.slice('--only='.length)
  .split(',');

/** Programs and their Debian packages. */
const packages = { nginx: 'nginx', wrk: 'wrk', fio: 'fio', valgrind: 'valgrind', setpriv: 'util-linux' } as const;

/** Whether a case is selected: `-- '--only=ONE,OTHER'`. */
export function isWanted(name: string): boolean {
  return only === undefined || only.includes(name);
}

/** Exits with an error message if programs are not installed. */
export function requirePrograms(bench: string, programs: readonly (keyof typeof packages)[]): void {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  console.error(`${bench} needs ${missing.join(', ')}: apt-get install ${programs.map((program) => packages[program]).join(' ')}`);
  process.exit(2);
}

/** Creates a folder on a disk and removes it when the process exits. */
export function makeFolder(): string {
  const folder = mkdtempSync(path.join(process.env.KURA_BENCH_DIRECTORY ?? '/var/tmp', 'kura-bench-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));
  return folder;
}

export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`);
  else console.error(text);
}

export function isInstalled(program: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
