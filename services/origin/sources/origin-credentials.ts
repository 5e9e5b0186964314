/** The credentials of one origin: the files of a mounted Secret. They are read again after a minute, so a rotation needs no restart. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** It is near, so the SDK asks for each request. Without it, the SDK would keep the first keys. */
  readonly expiration: Date;
}

const maxAgeMs = 60_000;

export class OriginCredentials {
  readonly #folder: string;
  readonly #now: () => number;
  readonly #s3: Remembered<S3Credentials>;
  readonly #authorization: Remembered<string | undefined>;

  constructor({ folder, now }: { folder: string; now: () => number }) {
    this.#folder = folder;
    this.#now = now;
    this.#s3 = new Remembered(now, () => this.#readS3());
    this.#authorization = new Remembered(now, () => this.#read('authorization'));
  }

  /** Whether there are keys for S3 now. Without them, the SDK uses its default chain: environment, web identity, instance metadata. */
  get areS3(): boolean {
    return existsSync(path.join(this.#folder, 'access-key-id'));
  }

  /** From the files `access-key-id`, `secret-access-key` and, if it exists, `session-token`. */
  s3(): Promise<S3Credentials> {
    return this.#s3.get();
  }

  /** The value of the header `Authorization`, from the file `authorization`; undefined without this file. */
  authorization(): Promise<string | undefined> {
    return this.#authorization.get();
  }

  async #readS3(): Promise<S3Credentials> {
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

  async #read(name: string): Promise<string | undefined> {
    try {
      return (await readFile(path.join(this.#folder, name), 'utf8')).trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new Error(`cannot read ${name} of an origin: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
    }
  }
}

/** A value that is read again after `maxAgeMs`. A fault is not remembered. */
class Remembered<T> {
  readonly #now: () => number;
  readonly #read: () => Promise<T>;
  #last: { readonly readAtMs: number; readonly value: T } | undefined;

  constructor(now: () => number, read: () => Promise<T>) {
    this.#now = now;
    this.#read = read;
  }

  async get(): Promise<T> {
    const readAtMs = this.#now();
    if (this.#last === undefined || readAtMs - this.#last.readAtMs >= maxAgeMs) this.#last = { readAtMs, value: await this.#read() };
    return this.#last.value;
  }
}
