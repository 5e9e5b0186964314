/** Certificates of eds from a folder like a Secret of type kubernetes.io/tls (`tls.crt`, `tls.key`, `ca.crt`), read again when they are replaced. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from '../shared/log.ts';

interface Certificates {
  readonly certificate: Buffer;
  readonly privateKey: Buffer;
  readonly caCertificate: Buffer;
}

export interface CertificateFolder {
  /** Of a server that only talks to clients with a certificate that `ca.crt` signed. */
  readonly credentials: ServerCredentials;
  close(): void;
}

/** A replaced Secret is there after a minute or so (facts/kubernetes.md); this adds little to it. */
const rereadMs = 2_000;

/** Rejects when a file cannot be read or is no certificate, or the key is not the certificate's. Later the last good ones go on, and the log says why. */
export async function openCertificates(folder: string, { log }: { log: Logger }): Promise<CertificateFolder> {
  let current = await read(folder);
  const identityListeners = new Set<experimental.IdentityCertificateUpdateListener>();
  const authorityListeners = new Set<experimental.CaCertificateUpdateListener>();
  let complaint: string | undefined;
  const reread = async (): Promise<void> => {
    try {
      const next = await read(folder);
      complaint = undefined;
      if (isSame(next, current)) return;
      current = next;
      log.info('certificates were replaced');
      for (const listener of identityListeners) listener(current);
      for (const listener of authorityListeners) listener(current);
    } catch (error) {
      const { message } = error as Error;
      if (message !== complaint) log.error(`${message}; the certificates before go on`);
      complaint = message;
    }
  };
  const timer = setInterval(() => void reread(), rereadMs);
  const provider: experimental.CertificateProvider = {
    addIdentityCertificateListener: (listener) => {
      identityListeners.add(listener);
      process.nextTick(listener, current);
    },
    removeIdentityCertificateListener: (listener) => identityListeners.delete(listener),
    addCaCertificateListener: (listener) => {
      authorityListeners.add(listener);
      process.nextTick(listener, current);
    },
    removeCaCertificateListener: (listener) => authorityListeners.delete(listener),
  };
  return {
    credentials: experimental.createCertificateProviderServerCredentials(provider, provider, true),
    close: () => clearInterval(timer),
  };
}

async function read(folder: string): Promise<Certificates> {
  try {
    const [certificate, privateKey, caCertificate] = (await Promise.all(
      ['tls.crt', 'tls.key', 'ca.crt'].map((name) => readFile(path.join(folder, name))),
    )) as [Buffer, Buffer, Buffer];
    // What is no certificate, and a key that is another's, is found here and not when somebody connects.
    createSecureContext({ cert: certificate, key: privateKey, ca: caCertificate });
    return { certificate, privateKey, caCertificate };
  } catch (error) {
    throw new Error(`the certificates in ${folder} cannot be used: ${(error as Error).message}`, { cause: error });
  }
}

function isSame(a: Certificates, b: Certificates): boolean {
  return a.certificate.equals(b.certificate) && a.privateKey.equals(b.privateKey) && a.caCertificate.equals(b.caCertificate);
}
