/** The credentials of one origin: the files of a mounted Secret. They are read again after a minute, so a rotation needs no restart. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When the SDK reads them again. */
  readonly expiration: Date;
}

const maxAgeMs = 60_000;

export class OriginCredentials {
  readonly #folder: string;
  readonly #now: () => number;
  #authorization: { readonly readAtMs: number; readonly value: string | undefined } | undefined;

  constructor({ folder, now }: { folder: string; now: () => number }) {
    this.#folder = folder;
    this.#now = now;
  }

  /** Whether there are keys for S3 now. Without them, the SDK uses its default chain: environment, web identity, instance metadata. */
  get areS3(): boolean {
    return existsSync(path.join(this.#folder, 'access-key-id'));
  }

  /** From the files `access-key-id`, `secret-access-key` and, if it exists, `session-token`. */
  async s3(): Promise<S3Credentials> {
    const [accessKeyId, secretAccessKey, sessionToken] = await Promise.all([
      this.#read('access-key-id'),
      this.#read('secret-access-key'),
      this.#read('session-token'),
    ]);
    if (accessKeyId === undefined || secretAccessKey === undefined)
      throw new Error(`${this.#folder} must hold the files access-key-id and secret-access-key`);
    const expiration = new Date(this.#now() + maxAgeMs);
    return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }), expiration };
  }

  /** The value of the header `Authorization`, from the file `authorization`; undefined without this file. */
  async authorization(): Promise<string | undefined> {
    const now = this.#now();
    if (this.#authorization === undefined || now - this.#authorization.readAtMs >= maxAgeMs)
      this.#authorization = { readAtMs: now, value: await this.#read('authorization') };
    return this.#authorization.value;
  }

  async #read(name: string): Promise<string | undefined> {
    try {
      return (await readFile(path.join(this.#folder, name), 'utf8')).trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new Error(`cannot read ${name} of an origin: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
    }
  }
}
