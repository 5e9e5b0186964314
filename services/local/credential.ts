/** The key with which authz signs callers and terms for the shards. It is created once per state folder. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** One file for authz and the shards, like the Secret in a cluster: one key, or two during a rotation, each on a line. */
export function credentialFile(stateDirectory: string): string {
  return path.join(stateDirectory, 'credential', 'keys');
}

/** Creates the file if it is missing; only the owner can read it. */
export async function createCredential(stateDirectory: string): Promise<void> {
  const file = credentialFile(stateDirectory);
  if (existsSync(file)) return;
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(file, randomBytes(32).toString('base64url'), { mode: 0o600 });
}
