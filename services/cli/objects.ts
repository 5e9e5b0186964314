/** `kura put`, `get`, `rm` and `stat`: one object. */
import { createReadStream, createWriteStream } from 'node:fs';
import { rm as removeFile, rename, stat as statFile } from 'node:fs/promises';
import path from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { formatBytes } from '../shared/format.ts';
import {
  type Connection,
  connect,
  exits,
  type Run,
  type ServerOptions,
  type Surroundings,
  withDirectOption,
  withServerOptions,
} from './command.ts';
import type { Answer } from './object-client.ts';
import { problemOf } from './problem-of.ts';
import { startByteProgress } from './progress.ts';
import { orUsageError, UsageError } from './usage-error.ts';

type Act = (connection: Connection, surroundings: Surroundings) => Run;

export function addObjectCommands(program: Command, surroundings: Surroundings, act: (run: () => Run) => Promise<void>): void {
  const withConnection = (options: ServerOptions, keyText: string, run: Act): Promise<void> =>
    act(async () => {
      const connection = connect(options, surroundings, { firstKey: keyText });
      try {
        return await run(connection, surroundings);
      } finally {
        await connection.client.close();
      }
    });
  withDirectOption(withServerOptions(program.command('put')))
    .description('store a file, or standard input (-), as an object')
    .argument('<file>', 'the file, or - for standard input')
    .argument('<key>', 'such as vision/a.jpg; spaces and non-ASCII letters are percent-encoded')
    .addHelpText('after', '\nExamples: kura put model.pt vision/model.pt\n          tar c data | kura put - vision/data.tar')
    .action((file: string, key: string, options: ServerOptions) =>
      withConnection(options, key, (c, s) => put(c, s, { file, key, ...options })),
    );
  withDirectOption(withServerOptions(program.command('get')))
    .description('write an object to standard output or into a file')
    .argument('<key>')
    .option('-o, --output <file>', 'appears only when the object is whole')
    .addHelpText('after', '\nExample: kura get vision/model.pt -o model.pt\nEnds with 3 when there is no such object.')
    .action((key: string, options: ServerOptions & { output?: string }) =>
      withConnection(options, key, (c, s) => get(c, s, { key, ...options })),
    );
  withServerOptions(program.command('stat'))
    .description('tell an object’s size, type, tag and shard')
    .argument('<key>')
    .addHelpText('after', '\nEnds with 3 when there is no such object.')
    .action((key: string, options: ServerOptions) => withConnection(options, key, (c, s) => stat(c, s, { key, ...options })));
  withServerOptions(program.command('rm'))
    .description('remove objects')
    .argument('<key...>')
    .addHelpText('after', '\nEnds with 3 when one of them was not there.')
    .action((keys: string[], options: ServerOptions) =>
      withConnection(options, keys[0] as string, (c, s) => remove(c, s, { keys, ...options })),
    );
}

async function put(
  { client, key: keyOf }: Connection,
  { here, stdin, terminal, errors, signal }: Surroundings,
  { file, key: text, json = false }: { file: string; key: string; json?: boolean },
): Run {
  const key = keyOf(text);
  const source = file === '-' ? undefined : await regularFile(path.resolve(here, file));
  const progress = startByteProgress({ label: 'put', total: source?.size, terminal: errors });
  let sent = 0;
  const counted = (body: Readable): Readable =>
    meter(body, (bytes) => {
      sent = bytes;
      progress.update(bytes);
    });
  const answer = await client
    .request('PUT', key, {
      // Standard input cannot be read twice: it is sent once, and what it was is not tried again.
      body: source === undefined ? counted(stdin) : () => counted(createReadStream(source.path)),
      ...(source === undefined ? {} : { length: source.size }),
      signal,
    })
    .finally(() => progress.stop());
  const problem = await answer.body.text();
  if (answer.status !== 201) return refuse(errors, 'put', key, answer.status, problem);
  const { etag } = answer.headers;
  const isKept = answer.headers['x-kura-stored'] !== 'no';
  if (json) terminal.say(JSON.stringify({ key, bytes: sent, etag: etag ?? null, stored: isKept }));
  else
    terminal.say(
      isKept ? `stored ${key}, ${formatBytes(sent)}` : `${key} was taken and not kept: the shard had no use or no room for it now`,
    );
  return exits.good;
}

async function get(
  { client, key: keyOf }: Connection,
  { here, terminal, errors, signal }: Surroundings,
  { key: text, output, json = false }: { key: string; output?: string; json?: boolean },
): Run {
  const key = keyOf(text);
  if (json && output === undefined) throw new UsageError('--json needs --output: the object itself goes to standard output');
  const answer = await client.request('GET', key, { signal });
  if (answer.status !== 200) return refuse(errors, 'get', key, answer.status, await answer.body.text());
  if (output === undefined) {
    await pipeline(answer.body, terminal.out, { signal, end: false });
    return exits.good;
  }
  const file = path.resolve(here, output);
  const part = `${file}.part`;
  const bytes = Number(answer.headers['content-length']);
  const progress = startByteProgress({ label: 'get', total: bytes, terminal: errors });
  try {
    // A body that ends early rejects here, and is never taken for the end of an object.
    await pipeline(meter(answer.body, progress.update), createWriteStream(part), { signal });
    await rename(part, file);
  } catch (error) {
    await removeFile(part, { force: true });
    throw error;
  } finally {
    progress.stop();
  }
  if (json) terminal.say(JSON.stringify({ key, bytes, file, ...described(answer) }));
  else terminal.say(`${file}, ${formatBytes(bytes)}`);
  return exits.good;
}

async function stat(
  { client, key: keyOf }: Connection,
  { terminal, errors, signal }: Surroundings,
  { key: text, json = false }: { key: string; json?: boolean },
): Run {
  const key = keyOf(text);
  const answer = await client.request('HEAD', key, { signal });
  await answer.body.dump();
  if (answer.status !== 200) return refuse(errors, 'stat', key, answer.status, '');
  const bytes = Number(answer.headers['content-length']);
  const { etag, type, shard } = described(answer);
  if (json) terminal.say(JSON.stringify({ key, bytes, etag, type, shard }));
  else terminal.say(`${key}\n  size  ${formatBytes(bytes)} (${bytes} bytes)\n  type  ${type ?? '–'}\n  etag  ${etag}\n  shard ${shard}`);
  return exits.good;
}

async function remove(
  { client, key: keyOf }: Connection,
  { terminal, errors, signal }: Surroundings,
  { keys, json = false }: { keys: readonly string[]; json?: boolean },
): Run {
  let worst: number = exits.good;
  for (const key of keys.map(keyOf)) {
    const answer = await client.request('DELETE', key, { signal });
    const problem = await answer.body.text();
    if (json) terminal.say(JSON.stringify({ key, removed: answer.status === 204, status: answer.status }));
    if (answer.status === 204) {
      if (!json) terminal.say(`removed ${key}`);
    } else {
      const status = refuse(errors, 'rm', key, answer.status, problem);
      worst = worst === exits.bad ? worst : status;
    }
  }
  return worst;
}

function described({ headers }: Answer): { etag: string | null; type: string | null; shard: string | null } {
  const text = (name: string): string | null => (headers[name] === undefined ? null : String(headers[name]));
  return { etag: text('etag'), type: text('content-type'), shard: text('x-kura-shard') };
}

function refuse(errors: Surroundings['errors'], verb: string, key: string, status: number, text: string): number {
  if (status === 404) {
    errors.say(`kura ${verb}: there is no object ${key}`);
    return exits.miss;
  }
  errors.say(`kura ${verb} ${key}: ${problemOf(status, text)}`);
  return exits.bad;
}

async function regularFile(file: string): Promise<{ path: string; size: number }> {
  const status = await orUsageError(statFile(file));
  if (!status.isFile()) throw new UsageError(`${file} is not a file`);
  return { path: file, size: status.size };
}

/** Passes a stream on and tells how many bytes have come through; an error of the source becomes one of the result. */
function meter(source: Readable, tell: (bytes: number) => void): Readable {
  let bytes = 0;
  const passing = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      tell(bytes);
      done(null, chunk);
    },
  });
  // The error is the result's too: whoever reads it is told.
  pipeline(source, passing).catch(() => undefined);
  return passing;
}
