/** `npm start`: the whole system on this machine, until Ctrl-C. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { styleText } from 'node:util';
import { Command, InvalidArgumentError } from 'commander';
import { parseBytes } from '../shared/environment.ts';
import { createConsole } from './console.ts';
import { envoyBinary } from './envoy-binary.ts';
import { type System, startSystem } from './system.ts';

const root = path.resolve(import.meta.dirname, '..', '..');

const options = new Command('npm start --')
  .description('Runs kura on this machine: Envoy, shards, eds, authz and a stand-in Kubernetes API, until Ctrl-C.')
  .option('--state <dir>', 'where objects, tokens and keys are kept', '.kura')
  .option('--port <n>', "Envoy's port; 0 = any free port for everything", wholeNumber({ min: 0, max: 65_535 }), 8080)
  .option('--shards <n>', 'number of shards', wholeNumber({ min: 1, max: 64 }), 4)
  .option('--shard-bytes <size>', 'size of each shard, such as 500M or 1Gi', size, 2 ** 30)
  .option('--kubeconfig <file>', "a real cluster that is asked for tokens and policy (the shards' endpoints stay local)")
  .option('--token-seconds <n>', 'life of the tokens under <state>/tokens', wholeNumber({ min: 10, max: 86_400 }), 3600)
  .addHelpText('after', '\nExample: npm start -- --port 9000 --shards 8 --shard-bytes 10Gi')
  .parse()
  .opts<{ state: string; port: number; shards: number; shardBytes: number; kubeconfig?: string; tokenSeconds: number }>();

const colour = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const console_ = createConsole({ out: process.stdout, colour });
const impatienceMs = 500;
let system: System | undefined;
let stoppingSince = Number.NEGATIVE_INFINITY;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());

try {
  const startedAt = performance.now();
  system = await startSystem({
    stateDirectory: path.resolve(options.state),
    port: options.port,
    shards: options.shards,
    shardBytes: options.shardBytes,
    kubeconfig: options.kubeconfig === undefined ? undefined : readable(path.resolve(options.kubeconfig)),
    tokenSeconds: options.tokenSeconds,
    envoyBinary: envoyBinary({ root, override: process.env.KURA_ENVOY }),
    root,
    // Compiled code is kept for the next start, which takes a quarter less for it.
    environment: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: path.join(root, '.tools', 'compile-cache') },
    console: console_,
  });
  greet(system, (performance.now() - startedAt) / 1000);
} catch (error) {
  console_.say(`kura did not start: ${(error as Error).message}`);
  process.exit(1);
}

/**
 * Before the system is up there is nothing to drain: the kernel kills the children with their parent. While it stops, an impatient second Ctrl-C ends it at
 * once; but npm passes the first one on to a child that has had it from the terminal already, so what comes right after is the same one.
 */
async function stop(): Promise<void> {
  const running = system;
  system = undefined;
  if (running === undefined) {
    if (performance.now() - stoppingSince > impatienceMs) process.exit(130);
    return;
  }
  stoppingSince = performance.now();
  console_.say('stopping …');
  await running.stop();
  console_.say('stopped; the objects stay for the next start');
  process.exit(0);
}

function greet({ local, localFile }: System, seconds: number): void {
  const { url, tokens, policy, shards } = local();
  const near = (file: string): string => path.relative(process.cwd(), file) || file;
  const bold = (text: string): string => (colour ? styleText('bold', text) : text);
  const [workload, tokenFile] = Object.entries(tokens)[0] ?? ['NAMESPACE/SERVICEACCOUNT', 'TOKEN_FILE'];
  const namespace = workload.split('/', 1)[0];
  const authorization = `-H "Authorization: Bearer $(cat ${near(tokenFile)})"`;
  process.stdout.write(
    [
      '',
      bold(`kura is ready after ${seconds.toFixed(1)} s: ${shards.length} shards behind ${url}`),
      '',
      `Store an object as ${workload}, and read it back:`,
      `  curl ${authorization} -T README.md ${url}/objects/${namespace}/hello`,
      `  curl ${authorization} ${url}/objects/${namespace}/hello`,
      'Read a whole folder twice, as a training job would:',
      `  npm run epoch -- node_modules${localFile === path.resolve('.kura/local.json') ? '' : ` --local ${near(localFile)}`}`,
      '',
      policy === null
        ? 'The policy is ConfigMap kura-policy of the cluster that you named.'
        : `Who may do what: ${near(policy)} (in force when saved)`,
      `All addresses and process ids: ${near(localFile)}`,
      'Ctrl-C stops everything.',
      '',
    ].join('\n'),
  );
}

function readable(file: string): string {
  accessSync(file, constants.R_OK);
  return file;
}

function size(value: string): number {
  try {
    const bytes = parseBytes(value);
    if (bytes < 2 ** 20) throw new Error('is less than 1Mi');
    return bytes;
  } catch (error) {
    throw new InvalidArgumentError(`It ${(error as Error).message}.`);
  }
}

function wholeNumber({ min, max }: { min: number; max: number }): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < min || number > max)
      throw new InvalidArgumentError(`It is not a whole number from ${min} to ${max}.`);
    return number;
  };
}
