/** An origin that is a folder: a mounted volume. It follows no symbolic link out of the folder. */
import { constants, type Dirent } from 'node:fs';
import { type FileHandle, open, readdir, readlink, realpath, stat } from 'node:fs/promises';
import type { FileSource as FileOrigin } from '../../shared/origins.ts';
import { type ListedObject, type ListRequest, type ObjectSource, type Opened, type OpenRequest, OriginError } from './object-source.ts';
import { encodeName, type OriginPath } from './origin-path.ts';

const slash = Buffer.from('/');
/** Without O_NONBLOCK, a FIFO in the folder would hold a thread of the pool for ever. */
const openFlags = constants.O_RDONLY | constants.O_NONBLOCK;

export class FileSource implements ObjectSource {
  readonly #root: string;

  constructor({ path }: FileOrigin) {
    this.#root = path.replace(/\/+$/, '') || '/';
  }

  async open(name: OriginPath, request: OpenRequest): Promise<Opened> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(Buffer.concat([Buffer.from(this.#root), slash, name.bytes]), openFlags);
      const opened = await this.#opened(handle, request);
      if (opened.kind === 'object' && opened.body !== undefined) handle = undefined;
      return opened;
    } catch (error) {
      return faultOf(error as NodeJS.ErrnoException);
    } finally {
      await handle?.close().catch(() => undefined);
    }
  }

  async *list({ prefix, after, signal }: ListRequest): AsyncIterable<ListedObject> {
    yield* this.#walk(Buffer.alloc(0), { prefix: prefix.bytes, after: after?.bytes ?? Buffer.alloc(0), signal });
  }

  async close(): Promise<void> {}

  async #opened(handle: FileHandle, { method, range, signal }: OpenRequest): Promise<Opened> {
    const facts = await handle.stat({ bigint: true });
    if (!facts.isFile()) return { kind: 'miss' };
    // The kernel knows where the open file really is, whichever links the name went through.
    const [place, root] = await Promise.all([readlink(`/proc/self/fd/${handle.fd}`), realpath(this.#root)]);
    if (root !== '/' && !place.startsWith(`${root}/`)) return { kind: 'refused', reason: 'the name leads out of the folder of the origin' };
    const bytes = Number(facts.size);
    const first = range?.first ?? 0;
    if (range !== undefined && first >= bytes) return { kind: 'range-not-satisfiable' };
    const last = Math.min(range?.last ?? Number.POSITIVE_INFINITY, bytes - 1);
    const object = {
      kind: 'object',
      bytes,
      first: range === undefined ? undefined : first,
      bodyBytes: last - first + 1,
      version: `"${facts.mtimeNs.toString(36)}-${facts.size.toString(36)}-${facts.ino.toString(36)}"`,
      modified: facts.mtime,
    } as const;
    // A stream of an empty range would read to the end of the file.
    if (method === 'HEAD' || last < first) return { ...object, body: undefined };
    return { ...object, body: handle.createReadStream({ start: first, end: last, signal, highWaterMark: 256 * 1024 }) };
  }

  /** In the order of whole names, so a folder sorts as its name with a slash. */
  async *#walk(
    folder: Buffer,
    { prefix, after, signal }: { prefix: Buffer; after: Buffer; signal: AbortSignal },
  ): AsyncIterable<ListedObject> {
    signal.throwIfAborted();
    const entries = await this.#entries(folder);
    const names = entries
      .filter((entry) => entry.isFile() || entry.isDirectory())
      .map((entry) => Buffer.concat([folder, entry.name, entry.isDirectory() ? slash : Buffer.alloc(0)]))
      .sort(Buffer.compare);
    for (const name of names) {
      if (name.at(-1) !== slash[0]) {
        if (!startsWith(name, prefix) || Buffer.compare(name, after) <= 0) continue;
        const facts = await stat(Buffer.concat([Buffer.from(this.#root), slash, name])).catch(() => undefined);
        if (facts !== undefined) yield { path: encodeName(name), bytes: facts.size, modified: facts.mtime };
      } else if ((startsWith(name, prefix) || startsWith(prefix, name)) && (startsWith(after, name) || Buffer.compare(name, after) > 0)) {
        yield* this.#walk(name, { prefix, after, signal });
      }
    }
  }

  /** A folder that was removed during the walk is empty. Rejects with OriginError. */
  async #entries(folder: Buffer): Promise<Dirent<Buffer>[]> {
    const place = Buffer.concat([Buffer.from(this.#root), slash, folder]);
    return await readdir(place, { withFileTypes: true, encoding: 'buffer' }).catch((error: NodeJS.ErrnoException) => {
      const fault = faultOf(error);
      if (fault.kind === 'miss' && folder.length > 0) return [];
      throw new OriginError(fault.kind === 'refused' ? 'refused' : 'failed', `cannot list a folder: ${error.code}`, { cause: error });
    });
  }
}

function startsWith(whole: Buffer, start: Buffer): boolean {
  return whole.subarray(0, start.length).equals(start);
}

function faultOf(error: NodeJS.ErrnoException): Opened {
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EISDIR':
    case 'ENAMETOOLONG':
    case 'ENXIO':
      return { kind: 'miss' };
    case 'EACCES':
    case 'EPERM':
    case 'ELOOP':
      return { kind: 'refused', reason: `the file cannot be read: ${error.code}` };
    default:
      return { kind: 'failed', reason: `the file cannot be read: ${error.code ?? error.message}` };
  }
}
