/** `npm start`: the whole system on this machine, until Ctrl-C. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { styleText } from 'node:util';
import { Command, InvalidArgumentError } from 'commander';
import { settings as shardSettings } from '../cache/config.ts';
import { createConsole } from './console.ts';
import { envoyBinary } from './envoy-binary.ts';
import { type System, startSystem } from './system.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const here = process.env.INIT_CWD ?? process.cwd();

const options = new Command('npm start --')
  .description('Runs kura on this machine: Envoy, shards, eds, authz and a fake Kubernetes API, until Ctrl-C.')
  .option('--state <dir>', 'where objects, tokens and keys are kept (default: .kura in the clone)', given)
  .option('--port <n>', "Envoy's port; 0 = any free port for everything", wholeNumber({ min: 0, max: 65_535 }), 8080)
  .option('--shards <n>', 'number of shards', wholeNumber({ min: 1, max: 64 }), 4)
  .option('--shard-bytes <size>', 'size of each shard, such as 500M or 1Gi', shardBytes, 2 ** 30)
  .option('--kubeconfig <file>', "a real cluster that is asked for tokens and policy (the shards' endpoints stay local)", readable)
  .option('--token-seconds <n>', 'life of the tokens under <state>/tokens', wholeNumber({ min: 10, max: 86_400 }), 3600)
  .addHelpText('after', '\nExample: npm start -- --port 9000 --shards 8 --shard-bytes 10Gi')
  .parse()
  .opts<{ state?: string; port: number; shards: number; shardBytes: number; kubeconfig?: string; tokenSeconds: number }>();

const exitInterrupted = 130;
const colour = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const console_ = createConsole({ out: process.stdout, colour });
const impatienceMs = 500;
const starting = new AbortController();
let system: System | undefined;
let stoppingSince = Number.POSITIVE_INFINITY;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());
// Whoever read what is printed here is gone: `npm start | head`, a closed terminal.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => void stop());

try {
  const startedAt = performance.now();
  system = await startSystem({
    stateDirectory: options.state ?? path.resolve('.kura'),
    port: options.port,
    shards: options.shards,
    shardBytes: options.shardBytes,
    cluster:
      options.kubeconfig === undefined ? undefined : { kubeconfig: options.kubeconfig, environment: variables((name) => !isOurs(name)) },
    tokenSeconds: options.tokenSeconds,
    envoyBinary: envoyBinary({ root, override: process.env.KURA_ENVOY }),
    root,
    // Compiled code is kept for the next start, which takes a quarter less for it.
    environment: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: path.join(root, '.tools', 'compile-cache') },
    settings: variables(isOurs),
    console: console_,
    signal: starting.signal,
  });
  greet(system, (performance.now() - startedAt) / 1000);
} catch (error) {
  if (starting.signal.aborted) process.exit(exitInterrupted);
  console_.say(`kura did not start: ${(error as Error).message}`);
  process.exit(1);
}

/**
 * While it stops, an impatient second Ctrl-C ends it at once, and the kernel kills the children with their parent; but npm passes the first one on to a child
 * that has had it from the terminal already, so what comes right after is the same one.
 */
async function stop(): Promise<void> {
  if (stoppingSince < Number.POSITIVE_INFINITY) {
    if (performance.now() - stoppingSince > impatienceMs) process.exit(exitInterrupted);
    return;
  }
  stoppingSince = performance.now();
  console_.say('stopping …');
  starting.abort();
  if (system === undefined) return;
  await system.stop();
  console_.say('stopped; the objects stay for the next start');
  process.exit(0);
}

function greet({ local, localFile }: System, seconds: number): void {
  const { url, tokens, policy, shards, eds } = local();
  const near = (file: string): string => {
    const way = path.relative(here, file);
    return quoted(way.startsWith('..') ? file : way);
  };
  const bold = (text: string): string => (colour ? styleText('bold', text) : text);
  const [workload, tokenFile] = Object.entries(tokens)[0] ?? ['NAMESPACE/SERVICEACCOUNT', undefined];
  const namespace = workload.split('/', 1)[0];
  const authorization = `-H "Authorization: Bearer $(cat ${tokenFile === undefined ? 'TOKEN_FILE' : near(tokenFile)})"`;
  const epochOptions = [
    ...(localFile === path.resolve('.kura/local.json') ? [] : [`--local ${near(localFile)}`]),
    ...(tokenFile === undefined ? ['--token-file TOKEN_FILE', `--prefix ${namespace}/hello`] : []),
  ];
  process.stdout.write(
    [
      '',
      bold(`kura is ready after ${seconds.toFixed(1)} s: ${shards.length} shards behind ${url}`),
      '',
      `Store an object as ${workload}, and read it back:`,
      `  curl ${authorization} -T README.md ${url}/objects/${namespace}/hello`,
      `  curl ${authorization} ${url}/objects/${namespace}/hello`,
      'Read a whole folder twice, as a training job would:',
      `  npm run epoch -- ${['node_modules', ...epochOptions].join(' ')}`,
      '',
      policy === null
        ? 'The policy is ConfigMap kura-policy of the cluster that you named.'
        : `Who may do what: ${near(policy)} (in force when saved)`,
      `What the shards hold and do: ${new URL('/', eds.metricsUrl)}`,
      `All addresses and process ids: ${near(localFile)}`,
      'Ctrl-C stops everything.',
      '',
    ].join('\n'),
  );
}

/** The caller's environment, as far as `isWanted`. */
function variables(isWanted: (name: string) => boolean): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined && isWanted(entry[0])),
  );
}

function isOurs(name: string): boolean {
  return name.startsWith('KURA_');
}

/** A path as the user means it: from the folder that npm was called in, not from the one where npm runs scripts. */
function given(file: string): string {
  return path.resolve(here, file);
}

function readable(file: string): string {
  try {
    accessSync(given(file), constants.R_OK);
    return given(file);
  } catch (error) {
    throw new InvalidArgumentError(`It cannot be read: ${(error as Error).message}.`);
  }
}

/** As a word of a shell. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function shardBytes(value: string): number {
  try {
    return shardSettings.maxBytes.parse(value) as number;
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
