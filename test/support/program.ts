/** A program of the project, run to its end; it dies with the test. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { passedOn } from './environment.ts';

const root = path.resolve(import.meta.dirname, '..', '..');

export interface Ended {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** `program` is such as `services/cli/main.ts`. It gets nothing of the test's environment but `passedOn`. */
export async function runProgram(
  program: string,
  args: readonly string[],
  {
    environment = {},
    cwd = root,
    stdin = '',
  }: { environment?: Readonly<Record<string, string>>; cwd?: string; stdin?: Buffer | string } = {},
): Promise<Ended> {
  const words = ['--pdeathsig', 'KILL', '--', process.execPath, path.join(root, program), ...args];
  const child = spawn('setpriv', words, { cwd, env: { ...passedOn, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] });
  // It may end without having read it.
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  const chunks: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout: Buffer.concat(chunks), stderr };
}
