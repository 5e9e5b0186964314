/** Certificates of eds from a folder like a Secret of type kubernetes.io/tls (`tls.crt`, `tls.key`, `ca.crt`), read again when they are replaced. */
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
  /** Of a server that accepts only clients with a certificate that `ca.crt` signed. */
  readonly credentials: ServerCredentials;
  close(): void;
}

/** The kubelet updates a mounted Secret within about a minute; this adds little to it. */
const rereadMs = 2_000;

/** Rejects when a file cannot be read, is not a certificate, or the key does not match. Later it keeps the last valid files and logs the reason. */
export async function openCertificates(folder: string, { log }: { log: Logger }): Promise<CertificateFolder> {
  let current = await read(folder);
  // Both kinds of grpc-js take what they need of the whole.
  const listeners = new Set<(update: Certificates) => void>();
  const poll = new FilePoll({
    intervalMs: rereadMs,
    reread: async () => {
      const next = await read(folder);
      if (isSame(next, current)) return;
      current = next;
      log.info('certificates were replaced');
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
    // What is no certificate, and a key that is another's, is found here and not when somebody connects.
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
