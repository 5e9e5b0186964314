/** Programs of the system that some tests hold kura against (Debian packages). */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

/**
 * The path of a program, or undefined where it is not installed. With CI=true that is a failure: there every real peer has to be met (.ci/run installs them).
 */
export function findPeer(program: string, { debianPackage }: { debianPackage: string }): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  const complaint = `${program} is not installed (Debian: apt-get install ${debianPackage})`;
  if (process.env.CI === 'true') throw new Error(complaint);
  console.warn(`${complaint}: what is held against it is left out`);
  return undefined;
}
