/** `kura token`: prints a workload's token of the local system. */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { UsageError } from '../usage-error.ts';
import { type CommandContext, exitStatuses, type RunAction } from './command-context.ts';
import { readLocal } from './connection.ts';

interface TokenOptions {
  readonly local?: string;
  readonly file?: boolean;
  readonly json?: boolean;
}

export function addTokenCommand(program: Command, context: CommandContext, run: RunAction): void {
  program
    .command('token')
    .description('print the token of a workload of the local system')
    .argument('[workload]', 'namespace/ServiceAccount', 'vision/trainer')
    .option('--local <file>', 'local.json of the local system (default: .kura/local.json in the clone)')
    .option('--file', 'print the path of the token file instead; the system renews it')
    .option('--json', 'print the token and the path as JSON')
    .addHelpText(
      'after',
      '\nExample: curl -H "Authorization: Bearer $(npm run -s kura -- token nlp/eval)" http://127.0.0.1:8080/objects/nlp/x',
    )
    .action((workload: string, options: TokenOptions) => run(() => token(workload, options, context)));
}

async function token(workload: string, options: TokenOptions, { workingDirectory, terminal }: CommandContext): Promise<number> {
  const { tokens } = readLocal(options.local, workingDirectory);
  const file = tokens[workload];
  if (file === undefined)
    throw new UsageError(`unknown workload ${workload}; known workloads are ${Object.keys(tokens).join(', ') || 'none'}`);
  const text = (await readFile(file, 'utf8')).trim();
  if (options.json) terminal.print(JSON.stringify({ workload, file, token: text }));
  else terminal.print(options.file ? file : text);
  return exitStatuses.success;
}
