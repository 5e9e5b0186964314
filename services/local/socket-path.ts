import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** sun_path holds 108 bytes with its final zero. */
const longestSocketPath = 107;

/**
 * Where authz's socket lies: in the state directory, or, where that is too deep for a socket's path, in a short folder of its own. `remove` takes away what is
 * left of it, also when authz was killed.
 */
export async function authzSocketPath(stateDirectory: string): Promise<{ socket: string; remove: () => Promise<void> }> {
  const usual = path.join(stateDirectory, 'authz.sock');
  if (Buffer.byteLength(usual) <= longestSocketPath) return { socket: usual, remove: () => rm(usual, { force: true }) };
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-'));
  return { socket: path.join(folder, 'authz.sock'), remove: () => rm(folder, { recursive: true, force: true }) };
}
