/** What the commands of `kura` share: where their words go, how they end, and the options that name a server. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { type Command, InvalidArgumentError } from 'commander';
import type { LocalFile } from '../local/local-file.ts';
import { isKey, type Key } from '../shared/key.ts';
import { keyOfText } from './key-of-file.ts';
import { ObjectClient } from './object-client.ts';
import type { Terminal } from './terminal.ts';
import { UsageError } from './usage-error.ts';

/** The statuses with which `kura` ends. */
export const exits = {
  good: 0,
  /** Requests failed, or bytes differed. */
  bad: 1,
  /** The command could not begin: arguments, files, a server that does not answer. */
  usage: 2,
  /** The cache does not have the object. */
  miss: 3,
  interrupted: 130,
} as const;

/** The process around a command. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The folder in which the user typed. */
  readonly here: string;
  readonly home: string;
  readonly stdin: Readable;
  /** Results. */
  readonly terminal: Terminal;
  /** Progress and complaints of commands whose result is data. */
  readonly errors: Terminal;
  readonly signal: AbortSignal;
}

/** What a command's action resolves with: an exit status. */
export type Run = Promise<number>;

export interface ServerOptions {
  readonly server?: string;
  readonly tokenFile?: string;
  readonly prefix?: string;
  readonly local?: string;
  readonly json?: boolean;
  readonly direct?: boolean;
}

/** A server to speak to, and the keys there. */
export interface Connection {
  readonly client: ObjectClient;
  /** What every key begins with, without a slash at its end; may be empty. */
  readonly prefix: string;
  /** The key that the user's text means. Throws UsageError for one that cannot be a key. */
  key(text: string): Key;
  /** Of the local system, where that is the server. */
  readonly local: LocalFile | undefined;
}

interface ConfigFile {
  readonly server?: string;
  readonly tokenFile?: string;
  readonly prefix?: string;
}

const configPath = '.config/kura.json';

/** Adds the options that say which server, as whom, and where in it. */
export function withServerOptions(command: Command): Command {
  return command
    .option('--server <url>', 'base URL, such as http://kura.kura-system (KURA_SERVER)')
    .option('--token-file <file>', 'file with the token, read again when it changes (KURA_TOKEN_FILE)')
    .option('--prefix <key>', 'put before each key, such as vision/run-7 (KURA_PREFIX)')
    .option('--local <file>', 'local.json of a local system, used where no server is named (default: .kura/local.json in the clone)')
    .option('--json', 'print the result as JSON');
}

/** For the commands that move bodies. */
export function withDirectOption(command: Command): Command {
  return command.option(
    '--direct',
    'large objects straight from and to the shards, where their ports are open to you; otherwise as without it',
  );
}

/**
 * From flags, then the environment, then ~/.config/kura.json; where none names a server, the running local system with the token of the keys' own namespace:
 * that of `firstKey` below the prefix. `fallbackPrefix` holds where no prefix is named. The caller closes the client.
 */
export function connect(
  options: ServerOptions,
  { environment, here, home }: Surroundings,
  { firstKey = '', fallbackPrefix = '', connections = 1 }: { firstKey?: string; fallbackPrefix?: string; connections?: number },
): Connection {
  const config = readConfig(path.join(home, configPath));
  const { KURA_SERVER, KURA_TOKEN_FILE, KURA_PREFIX } = environment;
  const prefix = keyOfText(options.prefix ?? KURA_PREFIX ?? config.prefix ?? fallbackPrefix).replace(/\/+$/, '');
  const key = (text: string): Key => {
    const whole = [prefix, keyOfText(text)].filter((part) => part !== '').join('/');
    if (!isKey(whole)) throw new UsageError(`${JSON.stringify(whole)} cannot be a key: 1 to 1,024 bytes without a . or .. segment`);
    return whole;
  };
  const namedServer = options.local === undefined ? (options.server ?? KURA_SERVER ?? config.server) : options.server;
  const local = namedServer === undefined ? readLocal(options.local, here) : undefined;
  const server = namedServer ?? (local as LocalFile).url;
  if (!/^https?:\/\/[^/]+$/.test(server.replace(/\/$/, '')))
    throw new UsageError(`--server ${server} is not a URL such as http://kura.kura-system`);
  const namespace = key(firstKey).split('/', 1)[0] as string;
  const tokenFile =
    options.tokenFile ??
    (options.local === undefined ? (KURA_TOKEN_FILE ?? config.tokenFile) : undefined) ??
    local?.tokens[`${namespace}/trainer`];
  if (tokenFile === undefined) {
    const known = Object.keys(local?.tokens ?? {}).map((workload) => workload.split('/', 1)[0]);
    const hint = known.length > 0 ? `, or use a key of ${[...new Set(known)].join(' or ')}` : '';
    throw new UsageError(`no token for namespace ${namespace}: name a file with --token-file${hint}`);
  }
  const file = path.resolve(here, tokenFile);
  if (!existsSync(file)) throw new UsageError(`the token file ${file} is not there`);
  return {
    client: new ObjectClient({ server: server.replace(/\/$/, ''), tokenFile: file, connections, isDirect: options.direct ?? false }),
    prefix,
    key,
    local,
  };
}

/** The local.json that the user names, or the clone's own: npm runs scripts there. Throws UsageError for a file that is not there or is none. */
export function readLocal(named: string | undefined, here: string): LocalFile {
  const file = path.resolve(named === undefined ? '.kura/local.json' : path.resolve(here, named));
  const text = readText(file);
  if (text === undefined)
    throw new UsageError(
      `${file} is not there: start the system with \`npm start\`, name its file with --local, or a server with --server`,
    );
  const local = parseObject(text) as Partial<LocalFile> | undefined;
  if (typeof local?.url !== 'string' || typeof local.tokens !== 'object' || !Array.isArray(local.shards))
    throw new UsageError(`${file} is not the local.json of a local system`);
  return local as LocalFile;
}

function readConfig(file: string): ConfigFile {
  const text = readText(file);
  if (text === undefined) return {};
  const config = parseObject(text);
  if (config === undefined) throw new UsageError(`${file} is not a JSON object`);
  for (const [name, value] of Object.entries(config)) {
    if (!['server', 'tokenFile', 'prefix'].includes(name)) throw new UsageError(`${file}: ${name} is none of server, tokenFile, prefix`);
    if (typeof value !== 'string') throw new UsageError(`${file}: ${name} is not a text`);
  }
  return config;
}

/** Undefined where there is none. */
function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new UsageError((error as Error).message, { cause: error });
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** An option's whole number from 1 to `max`. */
export function count({ max }: { max: number }): (value: string) => number {
  return (value) => {
    const number = Number(value);
    if (!/^\d+$/.test(value) || number < 1 || number > max) throw new InvalidArgumentError(`It is not a whole number from 1 to ${max}.`);
    return number;
  };
}
