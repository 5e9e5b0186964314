/** Real files whose calls fail or hang on command. */
import type { FileReader } from '../../../services/cache/disk/file-reader.ts';
import type { FileWriter } from '../../../services/cache/disk/file-writer.ts';
import { type Files, systemFiles } from '../../../services/cache/disk/files.ts';

type PooledCall = 'open' | 'read' | 'write' | 'size' | 'truncate' | 'rename' | 'unlink';

export class HostileFiles {
  /** The error codes of calls that fail now. */
  readonly fails = new Map<PooledCall, string>();
  readonly hangs = new Set<PooledCall>();
  readonly files: Files;
  readonly #waiting: (() => void)[] = [];

  /** `writer` writes small files, `reader` reads them. Both fail and hang as the calls that they replace. */
  constructor(writer?: FileWriter, reader?: FileReader) {
    const writeWhole: Files['writeWhole'] = async (...file) => {
      await this.#pass('open');
      await this.#pass('write');
      await this.#pass('rename');
      return (await writer?.write(...file)) ?? false;
    };
    const unlinkSmall: Files['unlinkSmall'] = async (path) => {
      await this.#pass('unlink');
      return (await writer?.remove(path)) ?? false;
    };
    const readWhole: Files['readWhole'] = async (...file) => {
      await this.#pass('open');
      await this.#pass('read');
      return await reader?.read(...file);
    };
    this.files = {
      ...(reader === undefined ? {} : { readWhole }),
      ...(writer === undefined ? {} : { writeWhole, unlinkSmall }),
      ...systemFiles,
      open: async (file, flags, mode) => {
        // A read-only file system can open files for reading.
        await this.#pass('open', this.fails.get('open') === 'EROFS' && flags === 'r');
        return systemFiles.open(file, flags, mode);
      },
      read: async (...args) => {
        await this.#pass('read');
        return systemFiles.read(...args);
      },
      write: async (...args) => {
        await this.#pass('write');
        return systemFiles.write(...args);
      },
      size: async (...args) => {
        await this.#pass('size');
        return systemFiles.size(...args);
      },
      truncate: async (...args) => {
        await this.#pass('truncate');
        return systemFiles.truncate(...args);
      },
      rename: async (...args) => {
        await this.#pass('rename');
        return systemFiles.rename(...args);
      },
      unlink: async (...args) => {
        await this.#pass('unlink');
        return systemFiles.unlink(...args);
      },
    };
  }

  /** Calls that hang now. */
  get waiting(): number {
    return this.#waiting.length;
  }

  hangAll(): void {
    for (const call of ['open', 'read', 'write', 'size', 'truncate', 'rename', 'unlink'] as const) this.hangs.add(call);
  }

  /** Makes all calls succeed, including those that hang now. */
  heal(): void {
    this.fails.clear();
    this.hangs.clear();
    for (const resume of this.#waiting.splice(0)) resume();
  }

  async #pass(call: PooledCall, isExempt = false): Promise<void> {
    if (this.hangs.has(call)) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const code = this.fails.get(call);
    if (code !== undefined && !isExempt) throw Object.assign(new Error(code), { code });
  }
}
