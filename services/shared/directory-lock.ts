/**
 * Ensures that only one process uses a directory. `flock` works across network and process namespaces, and the kernel releases it when its
 * owner ends. A pid file does neither. A Unix socket that is probed, unlinked and bound gave two owners in 15 of 20 test rounds. Node has
 * no flock(2), so flock of util-linux locks an inherited descriptor. The lock belongs to the open file description, which this process
 * keeps.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open } from 'node:fs/promises';
import path from 'node:path';

export interface DirectoryLock {
  release(): Promise<void>;
}

/** Locks a directory, and creates it if necessary. Undefined when another process holds the lock. Rejects when locking fails. */
export async function takeDirectoryLock(directory: string): Promise<DirectoryLock | undefined> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const handle = await open(path.join(directory, 'lock'), 'a', 0o600);
  let isTaken = false;
  try {
    const child = spawn('flock', ['-n', '3'], { stdio: ['ignore', 'ignore', 'pipe', handle.fd] });
    let complaint = '';
    child.stderr?.on('data', (bytes: Buffer) => {
      complaint += bytes.toString();
    });
    const [status] = (await once(child, 'close').catch((error: Error) => {
      throw new Error(`cannot start flock (util-linux): ${error.message}`);
    })) as [number];
    isTaken = status === 0;
    if (isTaken) return { release: () => handle.close() };
    if (status === 1 && complaint === '') return undefined;
    throw new Error(`cannot lock ${directory}: ${complaint.trim()}`);
  } finally {
    if (!isTaken) await handle.close();
  }
}
