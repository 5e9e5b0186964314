#!/usr/bin/env node
/** The `kura` command. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { Command } from 'commander';
import { type CommandContext, exitStatuses, quoted } from './commands/command-context.ts';
import { addCompletionCommand } from './commands/completion.ts';
import { addDatasetCommands } from './commands/datasets.ts';
import { addEpochCommand } from './commands/epoch.ts';
import { addFolderCommands } from './commands/folders.ts';
import { addObjectCommands } from './commands/objects.ts';
import { addPolicyCommands } from './commands/policy.ts';
import { addPrefetchCommand } from './commands/prefetch.ts';
import { addSizeCommand } from './commands/size.ts';
import { addStatusCommands } from './commands/status.ts';
import { addTokenCommand } from './commands/token.ts';
import { createTerminal } from './output/terminal.ts';
import { type FileName, fileName } from './transfer/file-name.ts';
import { UsageError } from './usage-error.ts';

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
// The reader of the output may close it early: `kura get … | head`.
process.stdout.on('error', () => process.exit(exitStatuses.failure));

// npm runs its scripts in the clone and passes the folder in which the user typed.
const isNpmScript = ['kura', 'epoch'].includes(process.env.npm_lifecycle_event ?? '');

const context: CommandContext = {
  environment: process.env,
  workingDirectory: (isNpmScript ? process.env.INIT_CWD : undefined) ?? process.cwd(),
  homeDirectory: homedir(),
  bytesOf,
  command: [isNpmScript ? 'npm run kura --' : 'kura', ...process.argv.slice(2).map(quoted)].join(' '),
  stdin: process.stdin,
  terminal: createTerminal(process.stdout),
  errorTerminal: createTerminal(process.stderr),
  signal: interrupted.signal,
};

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

const program = new Command('kura')
  .description('The command-line client of kura, a cache for training data.')
  .version(version, '-V, --version', 'print the version')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exitStatuses.success : exitStatuses.usage))
  .addHelpText(
    'after',
    `
Server: --server, KURA_SERVER, or "server" in ~/.config/kura.json.
Token:  --token-file, KURA_TOKEN_FILE, or "tokenFile" in ~/.config/kura.json.
Without a server, kura uses the local system that \`npm start\` runs.

Exit status: 0 success, 1 requests failed or bytes differed, 2 the command
could not start or the server went away, 3 the object does not exist,
130 interrupted with Ctrl-C.`,
  );
for (const add of [
  addObjectCommands,
  addDatasetCommands,
  addFolderCommands,
  addPrefetchCommand,
  addEpochCommand,
  addPolicyCommands,
  addStatusCommands,
  addSizeCommand,
  addTokenCommand,
  addCompletionCommand,
])
  add(program, context, runAction);
await program.parseAsync();

async function runAction(action: () => Promise<number>): Promise<void> {
  try {
    const status = await action();
    process.exitCode = interrupted.signal.aborted ? exitStatuses.interrupted : status;
  } catch (error) {
    if (interrupted.signal.aborted) process.exit(exitStatuses.interrupted);
    console.error(`kura: ${(error as Error).message}`);
    process.exit(error instanceof UsageError ? exitStatuses.usage : exitStatuses.failure);
  }
}

/** Node replaces bytes that are not UTF-8 in its arguments, so that different names look the same. Linux has the arguments as they were. */
function bytesOf(text: string): FileName {
  if (!text.includes('\uFFFD') || process.platform !== 'linux') return text;
  const words = readFileSync('/proc/self/cmdline', 'latin1').split('\0');
  const names = new Map(
    words.map((word) => Buffer.from(word, 'latin1')).flatMap((word) => (word.toString() === text ? [[word.toString('hex'), word]] : [])),
  );
  const [name] = names.values();
  if (name === undefined || names.size > 1)
    throw new UsageError(`${text}: an argument that is not UTF-8 must be a separate word, unlike --option=value`);
  return fileName(name);
}
