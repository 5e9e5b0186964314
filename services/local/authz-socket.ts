import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** `sun_path` has 108 bytes, and the last one is zero. https://man7.org/linux/man-pages/man7/unix.7.html */
const maxSocketPathBytes = 107;

export interface AuthzSocket {
  readonly path: string;
  /** Removes the socket, also after authz was killed. */
  remove(): Promise<void>;
}

/** Chooses the path of authz's socket: in the state folder, or in a temporary folder if that path is too long for a socket. */
export async function chooseAuthzSocket(stateDirectory: string): Promise<AuthzSocket> {
  const usual = path.join(stateDirectory, 'authz.sock');
  if (Buffer.byteLength(usual) <= maxSocketPathBytes) return { path: usual, remove: () => rm(usual, { force: true }) };
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-'));
  return { path: path.join(folder, 'authz.sock'), remove: () => rm(folder, { recursive: true, force: true }) };
}
