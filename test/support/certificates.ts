/** Writes certificates for tests into folders like a mounted Secret of type kubernetes.io/tls. */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Authority } from '../../services/fake-kubernetes/certificates.ts';

/** Issues a certificate for `name` and writes `tls.crt`, `tls.key` and `ca.crt`. Replaces each existing file atomically. */
export async function writeCertificate(folder: string, { authority, name }: { authority: Authority; name: string }): Promise<void> {
  const names = [
    { type: 'dns', value: name },
    { type: 'ip', value: '127.0.0.1' },
  ] as const;
  const { certificate, key } = await authority.issue({ subject: name, names });
  await mkdir(folder, { recursive: true });
  for (const [file, text] of Object.entries({ 'tls.key': key, 'tls.crt': certificate, 'ca.crt': authority.certificate })) {
    const fresh = path.join(folder, `.${file}`);
    await writeFile(fresh, text);
    await rename(fresh, path.join(folder, file));
  }
}
