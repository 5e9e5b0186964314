/** Who may speak to a shard: whoever sends a credential that stands in a file, which Envoy does. The file is read again when it changes. */
import { timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { FilePoll } from '../../shared/file-poll.ts';
import type { Logger } from '../../shared/log.ts';

export interface Credentials {
  /** Compared in constant time. */
  accepts(credential: string | undefined): boolean;
  close(): void;
}

/** Two, so that a new one can be let in before the old one goes. */
const mostCredentials = 2;
const form = /^[\x21-\x7e]{16,1024}$/;
const pollMs = 1_000;

/** Lets everybody in. */
export const noCredentials: Credentials = { accepts: () => true, close: () => undefined };

/** Throws an Error that says what is wrong with the file. One that goes bad later changes nothing and is logged. */
export function readCredentials(file: string, log: Logger): Credentials {
  let known = parse(readFileSync(file, 'utf8'));
  const poll = new FilePoll({
    intervalMs: pollMs,
    reread: async () => {
      const read = parse(await readFile(file, 'utf8'));
      if (read.length === known.length && read.every((each, at) => each.equals(known[at] as Buffer))) return;
      known = read;
      log.info({ file, credentials: known.length }, 'the credentials were replaced');
    },
    onFault: ({ message }) => log.error({ file, reason: message }, 'the credentials cannot be read: those known before stay'),
  });
  return {
    accepts: (credential) => {
      if (credential === undefined) return false;
      const given = Buffer.from(credential, 'latin1');
      let isKnown = false;
      for (const each of known) if (each.length === given.length && timingSafeEqual(each, given)) isKnown = true;
      return isKnown;
    },
    close: () => poll.close(),
  };
}

/** The message names no credential. */
function parse(text: string): Buffer[] {
  const lines = text.split('\n').map((line) => line.trim());
  const credentials = lines.filter((line) => line !== '');
  if (credentials.length === 0 || credentials.length > mostCredentials)
    throw new Error(`it holds ${credentials.length} credentials, where one or two are wanted, each on a line`);
  if (!credentials.every((credential) => form.test(credential)))
    throw new Error('a credential is not 16 to 1,024 bytes of printable ASCII');
  return credentials.map((credential) => Buffer.from(credential, 'latin1'));
}
