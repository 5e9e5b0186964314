/** Certificates of eds from a folder like a Secret of type kubernetes.io/tls (`tls.crt`, `tls.key`, `ca.crt`), read again when they are replaced. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setInterval } from 'node:timers/promises';
import { createSecureContext } from 'node:tls';
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from '../shared/log.ts';

interface Certificates {
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  readonly caCertificate: Buffer;
}

interface CertificateFolder {
  /** Of a server that only talks to clients with a certificate that `ca.crt` signed. */
  readonly credentials: ServerCredentials;
  close(): void;
}

/** A replaced Secret is there after a minute or so (facts/kubernetes.md); this adds little to it. */
const rereadMs = 2_000;

/** Rejects when a file cannot be read or is no certificate, or the key is not the certificate's. Later the last good ones go on, and the log says why. */
export async function openCertificates(folder: string, { log }: { log: Logger }): Promise<CertificateFolder> {
  let current = await read(folder);
  // Both kinds of grpc-js take what they need of the whole.
  const listeners = new Set<(update: Certificates) => void>();
  let complaint: string | undefined;
  const reread = async (): Promise<void> => {
    try {
      const next = await read(folder);
      complaint = undefined;
      if (isSame(next, current)) return;
      current = next;
      log.info('certificates were replaced');
      for (const listener of listeners) listener(current);
    } catch (error) {
      const { message } = error as Error;
      if (message !== complaint) log.error(`${message}; the certificates before go on`);
      complaint = message;
    }
  };
  const stopping = new AbortController();
  const watch = async (): Promise<void> => {
    for await (const _ of setInterval(rereadMs, undefined, { ref: false, signal: stopping.signal })) await reread();
  };
  // Ends only by being stopped.
  void watch().catch(() => undefined);
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
    close: () => stopping.abort(),
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
