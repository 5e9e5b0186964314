/** Runs the `kura` command in a process with a home folder, a working folder and a fake server. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { type ObjectServer, startObjectServer } from '../../support/object-server.ts';
import { runProgram } from '../../support/program.ts';
import { temporaryFolder } from '../../support/service.ts';

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kura {
  readonly server: ObjectServer;
  /** The folder in which the command runs. */
  readonly folder: string;
  readonly home: string;
  readonly tokenFile: string;
  /** Runs `kura` with only `environment` and a PATH. The default `environment` sets the server and the token. */
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
    const variables = { HOME: home, ...environment };
    const ended = await runProgram('services/cli/main.ts', args, { cwd: folder, environment: variables, stdin });
    return { ...ended, stdout: ended.stdout.toString('latin1') };
  };
  return { server, folder, home, tokenFile, run };
}
