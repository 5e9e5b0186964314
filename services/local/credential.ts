/**
 * The credential with which Envoy authenticates to shards. It is created once per state folder, in two files, so that it can be rotated
 * as in a cluster.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** The folder of the credential in a Pod (k8s/base/envoy.yaml). */
const podDirectory = '/etc/kura/credential';

interface CredentialFiles {
  /** The credential that Envoy sends: one line. */
  readonly envoy: string;
  /** The credentials that shards accept: one or two lines. */
  readonly shard: string;
  /** Envoy reads the path of the first file from here: envoy/credential.yaml with local paths. */
  readonly resource: string;
}

export function credentialFiles(stateDirectory: string): CredentialFiles {
  const directory = path.join(stateDirectory, 'credential');
  return { envoy: path.join(directory, 'envoy'), shard: path.join(directory, 'shard'), resource: path.join(directory, 'credential.yaml') };
}

/** Creates missing files, readable only by the owner. `root` is the clone. */
export async function createCredential(stateDirectory: string, root: string): Promise<void> {
  const { envoy, shard, resource } = credentialFiles(stateDirectory);
  const directory = path.dirname(envoy);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if (!existsSync(envoy) || !existsSync(shard)) {
    const credential = randomBytes(32).toString('base64url');
    for (const file of [shard, envoy]) await writeFile(file, credential, { mode: 0o600 });
  }
  const template = await readFile(path.join(root, 'envoy', 'credential.yaml'), 'utf8');
  await writeFile(resource, template.replaceAll(podDirectory, directory));
}
