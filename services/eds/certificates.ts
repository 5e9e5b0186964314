/**
 * The certificates of eds, from a folder with the files of a Secret of type kubernetes.io/tls (`tls.crt`, `tls.key`, `ca.crt`). Changed
 * files are loaded again.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import { FilePoll } from '../shared/file-poll.ts';
import type { Logger } from '../shared/log.ts';

interface Certificates {
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  readonly caCertificate: Buffer;
}

interface CertificateFolder {
  /** Credentials of a server that accepts only clients with a certificate signed by `ca.crt`. */
  readonly credentials: ServerCredentials;
  close(): void;
}

/** The kubelet updates a mounted Secret within about a minute. This interval adds little to that. */
const rereadMs = 2_000;

/**
 * Rejects when a file cannot be read, is no certificate, or the key does not match. Later faults are logged, and the last valid files stay
 * in use.
 */
export async function openCertificates(folder: string, { log }: { log: Logger }): Promise<CertificateFolder> {
  let current = await read(folder);
  // Both certificate providers of grpc-js get all three files and use what they need.
  const listeners = new Set<(update: Certificates) => void>();
  const poll = new FilePoll({
    intervalMs: rereadMs,
    reread: async () => {
      const next = await read(folder);
      if (isSame(next, current)) return;
      current = next;
      log.info('the certificates were replaced');
      for (const listener of listeners) listener(current);
    },
    onFault: ({ message }) => log.error(`${message}; keeping the previous certificates`),
  });
  const add = (listener: (update: Certificates) => void): void => {
    listeners.add(listener);
    process.nextTick(listener, current);
  };
  const remove = (listener: (update: Certificates) => void): boolean => listeners.delete(listener);
  const provider: experimental.CertificateProvider = {
    addIdentityCertificateListener: add,
    removeIdentityCertificateListener: remove,
    addCaCertificateListener: add,
    removeCaCertificateListener: remove,
  };
  return {
    credentials: experimental.createCertificateProviderServerCredentials(provider, provider, true),
    close: () => poll.close(),
  };
}

async function read(folder: string): Promise<Certificates> {
  const file = (name: string): Promise<Buffer> => readFile(path.join(folder, name));
  try {
    const [certificate, privateKey, caCertificate] = await Promise.all([file('tls.crt'), file('tls.key'), file('ca.crt')]);
    // Finds an invalid certificate or a key that does not match now, not at the first connection.
    check('tls.crt with tls.key', () => createSecureContext({ cert: certificate, key: privateKey }));
    check('ca.crt', () => new X509Certificate(caCertificate));
    return { certificate, privateKey, caCertificate };
  } catch (error) {
    throw new Error(`the certificates in ${folder} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function check(what: string, use: () => unknown): void {
  try {
    use();
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
  }
}

function isSame(a: Certificates, b: Certificates): boolean {
  return a.certificate.equals(b.certificate) && a.privateKey.equals(b.privateKey) && a.caCertificate.equals(b.caCertificate);
}
