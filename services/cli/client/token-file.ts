/** The token that a request carries. The kubelet replaces its file while the command runs. */
import { readFile, stat } from 'node:fs/promises';
import { UsageError } from '../usage-error.ts';

/** The file is checked again after this time. */
const maxAgeMs = 1_000;

export class TokenFile {
  readonly #file: string;
  #token: { readonly text: string; readonly modifiedAt: number; readonly readAt: number } | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  async read(): Promise<string> {
    const known = this.#token;
    if (known !== undefined && performance.now() - known.readAt < maxAgeMs) return known.text;
    const { mtimeMs } = await stat(this.#file);
    const text = known?.modifiedAt === mtimeMs ? known.text : (await readFile(this.#file, 'utf8')).trim();
    if (text === '') throw new UsageError(`the token file ${this.#file} is empty`);
    this.#token = { text, modifiedAt: mtimeMs, readAt: performance.now() };
    return text;
  }
}
