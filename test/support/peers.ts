/** Installed programs (Debian packages) that some tests run against kura. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

/**
 * Returns the path of a program, or undefined if it is not installed. With CI=true a missing program is an error, because .ci/run
 * installs every peer.
 */
export function findPeer(program: string, { debianPackage }: { debianPackage: string }): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  const message = `${program} is not installed (Debian: apt-get install ${debianPackage})`;
  if (process.env.CI === 'true') throw new Error(message);
  console.warn(`${message}: skipping the tests that need it`);
  return undefined;
}
