/** The `kura` command. */
import { homedir } from 'node:os';
import { Command } from 'commander';
import { exits, type Run, type Surroundings } from './command.ts';
import { addEpochCommand } from './epoch.ts';
import { addFolderCommands } from './folders.ts';
import { addObjectCommands } from './objects.ts';
import { addPolicyCommands } from './policy.ts';
import { addStatusCommands } from './status.ts';
import { createTerminal } from './terminal.ts';
import { addTokenCommand } from './token.ts';
import { UsageError } from './usage-error.ts';

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
// Who reads the result may have seen enough: `kura get … | head`.
process.stdout.on('error', () => process.exit(exits.bad));

const surroundings: Surroundings = {
  environment: process.env,
  // npm runs scripts in the clone and says where the user typed.
  here: process.env.INIT_CWD ?? process.cwd(),
  home: homedir(),
  stdin: process.stdin,
  terminal: createTerminal(process.stdout),
  errors: createTerminal(process.stderr),
  signal: interrupted.signal,
};

const program = new Command('kura')
  .description('kura, a cache for training data')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exits.good : exits.usage))
  .addHelpText(
    'after',
    `
The server is named by --server, KURA_SERVER or "server" in ~/.config/kura.json, the token by --token-file, KURA_TOKEN_FILE or "tokenFile" there; without a server
it is the local system that \`npm start\` runs.

Ends with 0 when all was well, 1 when requests failed or bytes differed, 2 when it could not begin, 3 when there is no such object, 130 after Ctrl-C.`,
  );
for (const add of [addObjectCommands, addFolderCommands, addEpochCommand, addPolicyCommands, addStatusCommands, addTokenCommand])
  add(program, surroundings, act);
await program.parseAsync();

/** Ends with what a command resolves with, and tells in one line why it could not. */
async function act(run: () => Run): Promise<void> {
  try {
    const status = await run();
    process.exitCode = interrupted.signal.aborted ? exits.interrupted : status;
  } catch (error) {
    if (interrupted.signal.aborted) process.exit(exits.interrupted);
    console.error(`kura: ${(error as Error).message}`);
    process.exit(error instanceof UsageError ? exits.usage : exits.bad);
  }
}
