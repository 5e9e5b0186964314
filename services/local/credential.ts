/** The credential by which shards know Envoy: made once for a state folder, in two files, so that it can be rotated as on a cluster. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Where a Pod has the credential (k8s/base/envoy.yaml). */
const podDirectory = '/etc/kura/credential';

interface CredentialFiles {
  /** What Envoy sends: one line. */
  readonly envoy: string;
  /** What shards take: one line or two. */
  readonly shard: string;
  /** Tells Envoy where the first one lies: envoy/credential.yaml, moved here. */
  readonly resource: string;
}

export function credentialFiles(stateDirectory: string): CredentialFiles {
  const directory = path.join(stateDirectory, 'credential');
  return { envoy: path.join(directory, 'envoy'), shard: path.join(directory, 'shard'), resource: path.join(directory, 'credential.yaml') };
}

/** Makes what is not there; only the owner can read it. `root` is the clone. */
export async function createCredential(stateDirectory: string, root: string): Promise<void> {
  const { envoy, shard, resource } = credentialFiles(stateDirectory);
  const directory = path.dirname(envoy);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (!existsSync(envoy) || !existsSync(shard)) {
    const credential = randomBytes(32).toString('base64url');
    for (const file of [shard, envoy]) await writeFile(file, credential, { mode: 0o600 });
  }
  const operators = await readFile(path.join(root, 'envoy', 'credential.yaml'), 'utf8');
  await writeFile(resource, operators.replaceAll(podDirectory, directory));
}
