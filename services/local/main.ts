/** `npm start`: runs the whole system on this machine until Ctrl-C. */
import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import { styleText } from 'node:util';
import { Command, InvalidArgumentError, Option } from 'commander';
import { settings as shardSettings } from '../cache/config.ts';
import { formatQuantity } from '../shared/quantity.ts';
import { createConsole } from './console.ts';
import { envoyBinary } from './envoy-binary.ts';
import { type LocalOrigin, parseOrigin } from './origins.ts';
import { type System, startSystem } from './system.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const callerDirectory = process.env.INIT_CWD ?? process.cwd();

const options = new Command('npm start --')
  .description('Runs kura on this machine until Ctrl-C: Envoy, shards, eds, authz, the console and a fake Kubernetes API.')
  .option('--state <dir>', 'folder for objects, tokens and keys (default: .kura in the clone)', fromCaller)
  .option('--port <n>', 'port of Envoy for clients; 0 selects any free port', wholeNumber({ min: 0, max: 65_535 }), 8080)
  .option('--shards <n>', 'number of shards', wholeNumber({ min: 1, max: 64 }), 4)
  .option('--shard-bytes <size>', 'capacity of each shard, such as 500M or 1Gi (default: 4Gi, or less on a small disk)', shardBytes)
  .option('--kubeconfig <file>', 'use another cluster for tokens and policy; the endpoints of the shards stay local', readable)
  .option('--token-seconds <n>', 'lifetime of the tokens in <state>/tokens', wholeNumber({ min: 10, max: 86_400 }), 3600)
  .addOption(
    new Option('--origin <prefix=source>', 'folder or URL from which kura fetches keys with the prefix under /through/; can be repeated')
      .argParser(origin)
      .default([], 'none')
      .conflicts('kubeconfig'),
  )
  .addHelpText(
    'after',
    `
Examples: npm start -- --port 9000 --shards 8 --shard-bytes 10Gi
          npm start -- --origin vision/imagenet/=/data/imagenet --origin _shared/web/=https://data.example/files/`,
  )
  .parse()
  .opts<{
    state?: string;
    port: number;
    shards: number;
    shardBytes?: number;
    kubeconfig?: string;
    tokenSeconds: number;
    origin: readonly LocalOrigin[];
  }>();

const exitInterrupted = 130;
const colour = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const console_ = createConsole({ out: process.stdout, colour });
/** A second signal within this time is the same Ctrl-C. */
const duplicateSignalMs = 500;
const starting = new AbortController();
let system: System | undefined;
let stoppingSince = Number.POSITIVE_INFINITY;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());
// The reader of the output has closed it: `npm start | head`, or a closed terminal.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => void stop());

try {
  const startedAt = performance.now();
  system = await startSystem({
    stateDirectory: options.state ?? path.resolve('.kura'),
    port: options.port,
    shards: options.shards,
    shardBytes: options.shardBytes,
    cluster:
      options.kubeconfig === undefined
        ? undefined
        : { kubeconfig: options.kubeconfig, environment: variables((name) => !isKuraVariable(name)) },
    tokenSeconds: options.tokenSeconds,
    origins: options.origin,
    envoyBinary: envoyBinary({ root, override: process.env.KURA_ENVOY }),
    root,
    // The compile cache makes the next start a quarter faster.
    environment: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: path.join(root, '.tools', 'compile-cache') },
    settings: variables(isKuraVariable),
    console: console_,
    signal: starting.signal,
  });
  printGreeting(system, (performance.now() - startedAt) / 1000);
} catch (error) {
  if (starting.signal.aborted) process.exit(exitInterrupted);
  console_.print(`kura did not start: ${(error as Error).message}`);
  process.exit(1);
}

/**
 * Stops the system. A second Ctrl-C while it stops exits immediately, and the kernel kills the child processes. The terminal and npm
 * both deliver the first Ctrl-C, so a signal that follows within `duplicateSignalMs` is ignored.
 */
async function stop(): Promise<void> {
  if (stoppingSince < Number.POSITIVE_INFINITY) {
    if (performance.now() - stoppingSince > duplicateSignalMs) process.exit(exitInterrupted);
    return;
  }
  stoppingSince = performance.now();
  console_.print('stopping …');
  starting.abort();
  if (system === undefined) return;
  await system.stop();
  console_.print('stopped; the next start finds the objects again');
  process.exit(0);
}

function printGreeting(running: System, seconds: number): void {
  const { localFile } = running;
  const { url, tokens, policy, shards, consoleUrl } = running.local();
  const display = (file: string): string => {
    const relative = path.relative(callerDirectory, file);
    return shellQuoted(relative.startsWith('..') ? file : relative);
  };
  const bold = (text: string): string => (colour ? styleText('bold', text) : text);
  const [workload, tokenFile] = Object.entries(tokens)[0] ?? ['NAMESPACE/SERVICEACCOUNT', undefined];
  const namespace = workload.split('/', 1)[0];
  const authorization = `-H "Authorization: Bearer $(cat ${tokenFile === undefined ? 'TOKEN_FILE' : display(tokenFile)})"`;
  const epochOptions = [
    ...(localFile === path.resolve('.kura/local.json') ? [] : [`--local ${display(localFile)}`]),
    ...(tokenFile === undefined ? ['--token-file TOKEN_FILE', `--prefix ${namespace}/hello`] : []),
  ];
  process.stdout.write(
    [
      '',
      bold(`kura is ready after ${seconds.toFixed(1)} s: ${shards.length} shards of ${formatQuantity(running.shardBytes)} behind ${url}`),
      '',
      `Store an object as ${workload} and read it back:`,
      `  curl ${authorization} -T README.md ${url}/objects/${namespace}/hello`,
      `  curl ${authorization} ${url}/objects/${namespace}/hello`,
      'Read a folder twice, as a training job does:',
      `  npm run epoch -- ${['node_modules', ...epochOptions].join(' ')}`,
      ...originLines(epochOptions),
      '',
      policy === null
        ? 'Policy: ConfigMap kura-policy in the cluster of --kubeconfig'
        : `Policy: ${display(policy)} (saving the file applies it)`,
      `Status page: ${consoleUrl}/`,
      `Addresses and process ids: ${display(localFile)}`,
      'Ctrl-C stops everything.',
      '',
    ].join('\n'),
  );
}

function originLines(epochOptions: readonly string[]): string[] {
  if (options.origin.length === 0) return [];
  const lines = options.origin.map(({ prefix, source }) => {
    if (/^https?:/.test(source)) return `  ${prefix} from ${source}`;
    return `  npm run epoch -- ${[shellQuoted(source), '--through', ...epochOptions].join(' ')}`;
  });
  return ['Let kura fetch what it misses, under /through/:', ...lines];
}

function origin(text: string, before: readonly LocalOrigin[]): readonly LocalOrigin[] {
  try {
    const added = parseOrigin(text, { before, directory: fromCaller });
    if (!/^https?:/.test(added.source) && !statSync(added.source).isDirectory()) throw new Error(`${added.source} is not a folder`);
    return [...before, added];
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new InvalidArgumentError(code === 'ENOENT' ? `The folder of "${text}" does not exist.` : `${message}.`);
  }
}

/** The environment variables of the caller whose names match `isWanted`. */
function variables(isWanted: (name: string) => boolean): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined && isWanted(entry[0])),
  );
}

function isKuraVariable(name: string): boolean {
  return name.startsWith('KURA_');
}

/** Resolves a path relative to the folder in which the user called npm, which is not the folder in which npm runs scripts. */
function fromCaller(file: string): string {
  return path.resolve(callerDirectory, file);
}

function readable(file: string): string {
  try {
    accessSync(fromCaller(file), constants.R_OK);
    return fromCaller(file);
  } catch (error) {
    throw new InvalidArgumentError(`The file is not readable: ${(error as Error).message}.`);
  }
}

/** Quotes a text as one word of a shell command. */
function shellQuoted(text: string): string {
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
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return number;
  };
}
