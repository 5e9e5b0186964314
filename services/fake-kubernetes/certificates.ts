/** The certificate authority of the fake API, and its serving certificate. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import { readOrMake } from './files.ts';

interface ServingCertificate {
  /** PEM: the serving certificate, followed by the certificate of the authority. */
  readonly certificate: string;
  /** PEM. */
  readonly key: string;
  /** PEM, the certificate that clients trust. */
  readonly authority: string;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const lifeMs = 10 * 365 * 86_400_000;
/** A client's clock may be slow. */
const earlyMs = 3_600_000;

/** Reads `tls.json` of the directory, or creates it. The authority's key signs once and is not stored. */
export async function servingCertificate(directory: string): Promise<ServingCertificate> {
  return JSON.parse(await readOrMake(path.join(directory, 'tls.json'), async () => JSON.stringify(await make()))) as ServingCertificate;
}

async function make(): Promise<ServingCertificate> {
  const authority = await createAuthority('kura local cluster');
  const names = [
    { type: 'ip', value: '127.0.0.1' },
    { type: 'dns', value: 'localhost' },
    { type: 'dns', value: 'kubernetes.default.svc' },
  ] as const;
  const { certificate, key } = await authority.issue({ subject: 'kubernetes', names });
  return { certificate: `${certificate}\n${authority.certificate}\n`, key, authority: authority.certificate };
}

export interface Authority {
  /** PEM. */
  readonly certificate: string;
  /** A certificate for servers and clients, and its key, both PEM. */
  issue(request: {
    subject: string;
    names: readonly { type: 'ip' | 'dns'; value: string }[];
  }): Promise<{ certificate: string; key: string }>;
}

/** A certificate authority whose key is only in memory. */
export async function createAuthority(name: string): Promise<Authority> {
  x509.cryptoProvider.set(webcrypto as Crypto);
  const now = Date.now();
  const validity = { notBefore: new Date(now - earlyMs), notAfter: new Date(now + lifeMs) };
  const authorityKeys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    name: `CN=${name}`,
    keys: authorityKeys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authorityKeys.publicKey),
    ],
  });
  return {
    certificate: authority.toString('pem'),
    issue: async ({ subject, names }) => {
      const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
      const certificate = await x509.X509CertificateGenerator.create({
        ...validity,
        subject: `CN=${subject}`,
        issuer: authority.subject,
        publicKey: keys.publicKey,
        signingKey: authorityKeys.privateKey,
        signingAlgorithm: algorithm,
        extensions: [
          new x509.SubjectAlternativeNameExtension([...names]),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
          await x509.AuthorityKeyIdentifierExtension.create(authorityKeys.publicKey),
        ],
      });
      const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
      return { certificate: certificate.toString('pem'), key: x509.PemConverter.encode(key, 'PRIVATE KEY') };
    },
  };
}
