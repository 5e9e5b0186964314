/** The `kura` command as its user runs it: a process with a home, a folder to type in, and a server. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ObjectServer, startObjectServer } from '../../support/object-server.ts';
import { temporaryFolder } from '../../support/service.ts';

const main = path.resolve(import.meta.dirname, '..', '..', '..', 'services', 'cli', 'main.ts');

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kura {
  readonly server: ObjectServer;
  /** Where the user types. */
  readonly folder: string;
  readonly home: string;
  readonly tokenFile: string;
  /** Runs it with nothing but `environment` and a PATH; a server and a token are named unless `environment` says otherwise. */
  readonly run: (
    args: readonly string[],
    also?: { stdin?: Buffer | string; environment?: Readonly<Record<string, string>> },
  ) => Promise<Ended>;
}

export async function startKura(t: ExecutionContext): Promise<Kura> {
  const folder = await temporaryFolder(t);
  const home = path.join(folder, 'home');
  await mkdir(path.join(home, '.config'), { recursive: true });
  const tokenFile = path.join(folder, 'token');
  await writeFile(tokenFile, 'secret-token\n');
  const server = await startObjectServer();
  t.teardown(() => server.close());
  const run: Kura['run'] = async (args, { stdin = '', environment = { KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile } } = {}) => {
    const words = ['--pdeathsig', 'KILL', '--', process.execPath, main, ...args];
    const env = { PATH: process.env.PATH ?? '', HOME: home, INIT_CWD: folder, ...environment };
    const child = spawn('setpriv', words, { cwd: folder, env, stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    const chunks: Buffer[] = [];
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const [status] = (await once(child, 'close')) as [number | null];
    return { status, stdout: Buffer.concat(chunks).toString('latin1'), stderr };
  };
  return { server, folder, home, tokenFile, run };
}
