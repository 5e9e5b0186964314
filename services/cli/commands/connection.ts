/** The options that select a server, a token and a key prefix, and the connection that they describe. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import type { LocalFile } from '../../local/local-file.ts';
import { isKey, type Key } from '../../shared/key.ts';
import { ObjectClient } from '../client/object-client.ts';
import { keyOfEncoded, keyOfFile, keyOfName } from '../transfer/file-key.ts';
import { baseName, type FileName } from '../transfer/file-name.ts';
import { UsageError } from '../usage-error.ts';
import type { CommandContext } from './command-context.ts';

export interface ServerOptions {
  readonly server?: string;
  readonly tokenFile?: string;
  readonly prefix?: string;
  readonly local?: string;
  readonly json?: boolean;
  readonly direct?: boolean;
  readonly raw?: boolean;
}

/** A server and the keys on it. */
export interface Connection {
  readonly client: ObjectClient;
  /** The beginning of every key, without a slash at its end; may be empty. */
  readonly prefix: string;
  /** Returns the key of the name that the user typed. Throws UsageError if it cannot be a key. */
  key(typed: string): Key;
  /** Like `key`, and a name that ends in a slash gets the name of the file too. */
  keyFor(file: FileName, typed: string): Key;
  /** Returns the prefix of keys that the user typed: with the prefix of every key in front, and a slash at its end unless it is empty. */
  prefixOf(typed: string): string;
  readonly server: string;
  readonly tokenFile: string;
  /** The local system, if it is the server. */
  readonly local: LocalFile | undefined;
}

const configFields = ['server', 'tokenFile', 'prefix'] as const;
type ConfigFile = { readonly [field in (typeof configFields)[number]]?: string };

const configPath = '.config/kura.json';

/** Adds the options that select the server, the token and the prefix. */
export function withServerOptions(command: Command): Command {
  return command
    .option('--server <url>', 'base URL, such as http://kura.kura-system (KURA_SERVER)')
    .option('--token-file <file>', 'file with the token; it is read again when it changes (KURA_TOKEN_FILE)')
    .option('--prefix <key>', 'prefix of every name, such as vision/run-7 (KURA_PREFIX)')
    .option('--local <file>', 'local.json of a local system, used without --server (default: .kura/local.json in the clone)')
    .option('--raw', 'keys and prefix are already percent-encoded, as in a URL')
    .option('--json', 'print the result as JSON');
}

/** Adds the option of the commands that transfer bodies. */
export function withDirectOption(command: Command): Command {
  return command.option('--direct', 'transfer large objects directly from and to the shards; fall back to the server if that fails');
}

/**
 * Reads the flags first, then the environment, then ~/.config/kura.json. If none of them sets a server, connects to the running local
 * system with the token of the namespace that owns `firstKey`. `fallbackPrefix` returns a key and applies if no prefix is set. The caller
 * closes the client.
 */
export function connect(
  options: ServerOptions,
  { environment, workingDirectory, homeDirectory, bytesOf }: CommandContext,
  {
    firstKey = '',
    fallbackPrefix = () => '',
    connections = 1,
  }: { firstKey?: string; fallbackPrefix?: (local: LocalFile | undefined) => string; connections?: number },
): Connection {
  const config = readConfig(path.join(homeDirectory, configPath));
  const { KURA_SERVER, KURA_TOKEN_FILE, KURA_PREFIX } = environment;
  const encode = (text: string): string => (options.raw ? rawKey(text) : keyOfName(bytesOf(text)));
  const namedPrefix = options.prefix ?? KURA_PREFIX ?? config.prefix;
  const namedServer = options.local === undefined ? (options.server ?? KURA_SERVER ?? config.server) : options.server;
  const local = namedServer === undefined ? readLocal(options.local, workingDirectory) : undefined;
  const prefix = (namedPrefix === undefined ? fallbackPrefix(local) : encode(namedPrefix)).replace(/^\/+|\/+$/g, '');
  const key = (typed: string): Key => prefixedKey(prefix, encode(typed));
  const keyFor = (file: FileName, typed: string): Key =>
    prefixedKey(prefix, typed.endsWith('/') ? keyOfFile(encode(typed), baseName(file)) : encode(typed));
  const server = (namedServer ?? (local as LocalFile).url).replace(/\/$/, '');
  if (!/^https?:\/\/[^/]+$/.test(server))
    throw new UsageError(`the server is ${JSON.stringify(server)}; --server must be a URL such as http://kura.kura-system`);
  const namespace = key(firstKey).split('/', 1)[0] as string;
  const namedTokenFile = options.tokenFile ?? (options.local === undefined ? (KURA_TOKEN_FILE ?? config.tokenFile) : undefined);
  const tokenFile = namedTokenFile ?? localTokenFile(local, namespace);
  const file = path.resolve(workingDirectory, tokenFile);
  if (!existsSync(file)) throw new UsageError(`the token file ${file} does not exist`);
  return {
    client: new ObjectClient({ server, tokenFile: file, connections, isDirect: options.direct ?? false }),
    prefix,
    key,
    keyFor,
    prefixOf: (typed) => keyPrefix(prefix, encode(typed)),
    server,
    tokenFile: file,
    local,
  };
}

/**
 * Reads the local.json that the user names, or the clone's own: npm runs scripts there. Throws UsageError if the file is missing or
 * invalid.
 */
export function readLocal(named: string | undefined, workingDirectory: string): LocalFile {
  const file = path.resolve(named === undefined ? '.kura/local.json' : path.resolve(workingDirectory, named));
  const text = readText(file);
  if (text === undefined)
    throw new UsageError(
      `${file} does not exist: start the local system with \`npm start\`, or select its file with --local or a server with --server`,
    );
  const local = parseObject(text) as Partial<LocalFile> | undefined;
  if (typeof local?.url !== 'string' || typeof local.tokens !== 'object' || !Array.isArray(local.shards))
    throw new UsageError(`${file} is not the local.json of a local system`);
  return local as LocalFile;
}

function prefixedKey(prefix: string, encoded: string): Key {
  const key = [prefix, encoded.replace(/^\/+/, '')].filter((part) => part !== '').join('/');
  if (!isKey(key)) throw new UsageError(`${JSON.stringify(key)} is not a valid key: 1 to 1,024 bytes without a . or .. segment`);
  return key;
}

function keyPrefix(prefix: string, encoded: string): string {
  const joined = [prefix, encoded.replace(/^\/+|\/+$/g, '')].filter((part) => part !== '').join('/');
  if (joined === '') return '';
  if (!isKey(`${joined}/`))
    throw new UsageError(`${JSON.stringify(`${joined}/`)} is not a valid prefix: at most 1,024 bytes without a . or .. segment`);
  return `${joined}/`;
}

function rawKey(text: string): string {
  const key = keyOfEncoded(text);
  if (key !== undefined) return key;
  throw new UsageError(
    `${JSON.stringify(text)} is not an encoded key: it must be printable ASCII, and every % must begin an escape other than %00, %2F and %5C`,
  );
}

function localTokenFile(local: LocalFile | undefined, namespace: string): string {
  // No namespace can have a name that begins with _, so such a prefix is shared.
  const [anyToken] = Object.values(local?.tokens ?? {});
  const file = namespace.startsWith('_') ? anyToken : local?.tokens[`${namespace}/trainer`];
  if (file !== undefined) return file;
  const known = new Set(Object.keys(local?.tokens ?? {}).map((workload) => workload.split('/', 1)[0]));
  const hint = known.size > 0 ? `, or use a key that begins with ${[...known].map((name) => `${name}/`).join(' or ')}` : '';
  throw new UsageError(`no token for namespace ${namespace}: set --token-file${hint}`);
}

function readConfig(file: string): ConfigFile {
  const text = readText(file);
  if (text === undefined) return {};
  const config = parseObject(text);
  if (config === undefined) throw new UsageError(`${file} is not a JSON object`);
  for (const [name, value] of Object.entries(config)) {
    if (!configFields.some((field) => field === name))
      throw new UsageError(`${file}: unknown field ${JSON.stringify(name)}; known fields are ${configFields.join(', ')}`);
    if (typeof value !== 'string') throw new UsageError(`${file}: ${name} is ${JSON.stringify(value)}; it must be a string`);
  }
  return config;
}

/** Returns undefined if the file does not exist. */
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
