#!/usr/bin/env node
/** `kubectl kura`: looks at a kura in a cluster through kubectl, which finds this program in the PATH. */
import path from 'node:path';
import { Command } from 'commander';
import { readConsole } from '../client/console-page.ts';
import { count, exitStatuses } from '../commands/command-context.ts';
import { printStatus, printTop } from '../commands/status.ts';
import { createTerminal } from '../output/terminal.ts';
import { UsageError } from '../usage-error.ts';
import { forwardConsole } from './cluster.ts';
import { type Forward, Kubectl } from './kubectl.ts';
import { writeBundle } from './support-bundle.ts';

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

const terminal = createTerminal(process.stdout);
const context = { terminal, signal: interrupted.signal };

const program = new Command('kubectl kura')
  .description('Looks at a kura in a cluster.')
  .option('-n, --namespace <name>', 'namespace of kura', 'kura-system')
  .option('--context <name>', 'context of the kubeconfig')
  .option('--kubeconfig <file>', 'kubeconfig')
  .exitOverride((error) => process.exit(error.exitCode === 0 ? exitStatuses.success : exitStatuses.usage))
  .addHelpText('after', '\nExit status: 0 success, 1 a shard does not respond or something could not be read, 2 wrong arguments.');

program
  .command('status')
  .description('show what each shard stores and has served since its start')
  .option('--json', 'print the result as JSON')
  .action((options: { json?: boolean }) => run(() => withConsole((page) => printStatus(() => readConsole(page.url), options, context))));
program
  .command('top')
  .description('show the current request rates of each shard, repeatedly')
  .option('--interval <seconds>', 'time between two updates', count({ max: 3_600 }), 5)
  .option('--times <n>', 'number of updates (default: until Ctrl-C)', count({ max: 1_000_000 }))
  .option('--json', 'print the result as JSON')
  .action((options: { interval: number; times?: number; json?: boolean }) =>
    run(() => withConsole((page) => printTop(() => readConsole(page.url), options, context))),
  );
for (const [name, description] of [
  ['policy', 'print the policy, for `kura policy test` and `explain`'],
  ['origins', 'print the origins, for `kura policy explain --origins`'],
] as const) {
  program
    .command(name)
    .description(description)
    .action(() =>
      run(async () => {
        const document = ['get', 'configmap', `kura-${name}`, '-o', String.raw`jsonpath={.data.${name}\.yaml}`];
        terminal.print((await kubectl().text(document)).trimEnd());
        return exitStatuses.success;
      }),
    );
}
program
  .command('support-bundle')
  .description('write logs, Envoy configuration, streams and objects to a folder, without tokens and credentials')
  .argument('[folder]', 'new folder', 'kura-support')
  .action((folder: string) =>
    run(async () => {
      const { files, faults } = await writeBundle(kubectl(), path.resolve(folder));
      terminal.print(`${files} files in ${folder}; read them before you send them`);
      for (const fault of faults) console.error(`kubectl kura: ${fault}`);
      return faults.length === 0 ? exitStatuses.success : exitStatuses.failure;
    }),
  );
await program.parseAsync();

function kubectl(): Kubectl {
  const { namespace, context: name, kubeconfig } = program.opts<{ namespace: string; context?: string; kubeconfig?: string }>();
  const optional = Object.entries({ '--context': name, '--kubeconfig': kubeconfig });
  const flags = optional.flatMap(([flag, value]) => (value === undefined ? [] : [flag, value]));
  return new Kubectl(['--namespace', namespace, ...flags], interrupted.signal);
}

async function withConsole(use: (page: Forward) => Promise<number>): Promise<number> {
  const page = await forwardConsole(kubectl());
  try {
    return await use(page);
  } finally {
    await page.close();
  }
}

async function run(action: () => Promise<number>): Promise<void> {
  try {
    const status = await action();
    process.exitCode = interrupted.signal.aborted ? exitStatuses.interrupted : status;
  } catch (error) {
    if (interrupted.signal.aborted) process.exit(exitStatuses.interrupted);
    console.error(`kubectl kura: ${(error as Error).message}`);
    process.exit(error instanceof UsageError ? exitStatuses.usage : exitStatuses.failure);
  }
}
