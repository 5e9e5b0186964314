/** `kura token`: a workload's token of the local system. */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { exits, type Run, readLocal, type Surroundings } from './command.ts';
import { UsageError } from './usage-error.ts';

interface TokenOptions {
  readonly local?: string;
  readonly file?: boolean;
  readonly json?: boolean;
}

export function addTokenCommand(program: Command, surroundings: Surroundings, act: (run: () => Run) => Promise<void>): void {
  program
    .command('token')
    .description('print the token of a workload of the local system')
    .argument('[workload]', 'namespace/ServiceAccount', 'vision/trainer')
    .option('--local <file>', 'local.json of the local system (default: .kura/local.json in the clone)')
    .option('--file', 'print the name of its file, which is renewed, instead')
    .option('--json', 'print both as JSON')
    .addHelpText(
      'after',
      '\nExample: curl -H "Authorization: Bearer $(npm run -s kura -- token nlp/eval)" http://127.0.0.1:8080/objects/nlp/x',
    )
    .action((workload: string, options: TokenOptions) => act(() => token(workload, options, surroundings)));
}

async function token(workload: string, options: TokenOptions, { here, terminal }: Surroundings): Run {
  const { tokens } = readLocal(options.local, here);
  const file = tokens[workload];
  if (file === undefined) throw new UsageError(`there is no workload ${workload}: known are ${Object.keys(tokens).join(', ') || 'none'}`);
  const text = (await readFile(file, 'utf8')).trim();
  if (options.json) terminal.say(JSON.stringify({ workload, file, token: text }));
  else terminal.say(options.file ? file : text);
  return exits.good;
}
