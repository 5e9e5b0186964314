/** Runs a program of the project until it exits. The kernel kills it with the test. */
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

/** `program` is a path such as `services/cli/main.ts`. Of the test's environment, it gets only `passedOn`. */
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
  // The program may exit without reading its input.
  child.stdin.on('error', () => undefined);
  child.stdin.end(stdin);
  const chunks: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout: Buffer.concat(chunks), stderr };
}
