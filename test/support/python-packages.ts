/** Python packages that some tests run against kura, from the package index. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const pip = ['-m', 'pip', '--quiet', '--disable-pip-version-check'];
const quiet = { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' };

export interface PythonPackages {
  /** For PYTHONPATH: the packages of the list, installed. */
  readonly installed: string;
  /** Arguments of python3 that install from the same wheels, without the package index. */
  readonly install: readonly string[];
}

/**
 * The packages of a pinned list. They are fetched once for each version of the list and of Python. Undefined without python3 or the
 * package index; with CI=true that is an error.
 */
export async function findPythonPackages(requirements: string): Promise<PythonPackages | undefined> {
  try {
    const folder = await fetchPackages(requirements);
    return { installed: path.join(folder, 'installed'), install: installFrom(folder) };
  } catch (error) {
    if (process.env.CI === 'true') throw error;
    console.warn(`the packages of ${path.relative(root, requirements)} are not available: skipping: ${(error as Error).message}`);
    return undefined;
  }
}

/** Runs python3 without the notes of pip. */
export async function runPython(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<void> {
  await run('python3', args, { env: { ...quiet, ...environment } });
}

/** A folder with wheels, and with the same packages installed. */
async function fetchPackages(requirements: string): Promise<string> {
  const { stdout: version } = await run('python3', ['-c', 'import sys; print(sys.version_info[:2])']);
  const stamp = createHash('sha256')
    .update(await readFile(requirements))
    .update(version)
    .digest('hex')
    .slice(0, 12);
  const target = path.join(root, '.tools', `python-package-${stamp}`);
  if (existsSync(target)) return target;
  await mkdir(path.dirname(target), { recursive: true });
  const scratch = await mkdtemp(`${target}-`);
  try {
    await runPython([...pip, 'download', '--only-binary=:all:', '--dest', path.join(scratch, 'wheels'), '-r', requirements]);
    await runPython([...installFrom(scratch), '--target', path.join(scratch, 'installed'), '-r', requirements]);
    await rename(scratch, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return target;
}

function installFrom(packages: string): string[] {
  return [...pip, 'install', '--no-index', '--find-links', path.join(packages, 'wheels')];
}
