/**
 * The file with the keys of the signed headers (signed-terms.ts): one key, or two during a rotation, each on a line. authz signs with the
 * first.
 */
import { createSecretKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { FilePoll } from './file-poll.ts';
import type { Logger } from './log.ts';

export interface Credentials {
  /** The same array until the file changes. Undefined without a file: nothing is signed. */
  readonly keys: readonly KeyObject[] | undefined;
  close(): void;
}

/** Two, so that all services accept a new key before authz signs with it. */
const maxCredentials = 2;
const form = /^[\x21-\x7e]{16,1024}$/;
const pollMs = 1_000;
/** The value of the setting that turns signatures off. */
const off = 'off';

/**
 * Reads the file, and again after each change. With `off` there is no file. Throws an Error for an invalid file. A later fault is logged,
 * and the keys stay.
 */
export function openCredentials(file: string, log: Logger): Credentials {
  if (file === off) return { keys: undefined, close: () => undefined };
  let keys = parse(readFileSync(file, 'utf8'));
  const poll = new FilePoll({
    intervalMs: pollMs,
    reread: async () => {
      const read = parse(await readFile(file, 'utf8'));
      if (read.length === keys.length && read.every((key, at) => key.equals(keys[at] as KeyObject))) return;
      keys = read;
      log.info({ file, credentials: keys.length }, 'the credentials were replaced');
    },
    onFault: ({ message }) => log.error({ file, reason: message }, 'cannot read the credentials; keeping the previous ones'),
  });
  return {
    get keys() {
      return keys;
    },
    close: () => poll.close(),
  };
}

/** The message names no credential. */
function parse(text: string): KeyObject[] {
  const lines = text.split('\n').map((line) => line.trim());
  const credentials = lines.filter((line) => line !== '');
  if (credentials.length === 0 || credentials.length > maxCredentials)
    throw new Error(`the file holds ${credentials.length} credentials; it must hold one or two, each on a line`);
  if (!credentials.every((credential) => form.test(credential)))
    throw new Error('a credential is not 16 to 1,024 bytes of printable ASCII');
  return credentials.map((credential) => createSecretKey(Buffer.from(credential, 'latin1')));
}
