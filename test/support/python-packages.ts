/** Packages for Python, fetched into .tools once for each version of their list. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const tools = path.resolve(import.meta.dirname, '..', '..', '.tools');
const quiet = { ...process.env, PIP_ROOT_USER_ACTION: 'ignore' };
/** A registry that sends nothing for so long is asked again, five times by default. */
const maxSilenceSeconds = 120;
/** A call of pip that takes longer fails. The packages of `npm run test:torch` have 6 GB. */
const maxPipMs = 30 * 60_000;

export async function pip(words: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<void> {
  const [command = '', ...rest] = words;
  const options = { env: { ...quiet, ...environment }, maxBuffer: 2 ** 26, timeout: maxPipMs, killSignal: 'SIGKILL' } as const;
  const limits = ['--timeout', String(maxSilenceSeconds)];
  await run('python3', ['-m', 'pip', command, '--quiet', '--disable-pip-version-check', ...limits, ...rest], options);
}

/** A folder for PYTHONPATH. */
export function installedPackages(name: string, requirements: string): Promise<string> {
  const words = ['--only-binary=:all:', '--no-warn-conflicts', '-r', requirements];
  return fetchOnce(name, requirements, (scratch) => pip(['install', ...words, '--target', scratch]));
}

/** The Python of a virtual environment. Some packages, such as dill, work only there. */
export async function virtualEnvironment(name: string, requirements: string): Promise<string> {
  const folder = await fetchOnce(name, requirements, async (scratch) => {
    await run('python3', ['-m', 'venv', '--without-pip', scratch]);
    const { stdout: site } = await run(path.join(scratch, 'bin', 'python'), ['-c', 'import site; print(site.getsitepackages()[0])']);
    await pip(['install', '--only-binary=:all:', '--target', site.trim(), '-r', requirements]);
  });
  return path.join(folder, 'bin', 'python');
}

/** A folder that `fetch` fills. */
export async function fetchOnce(name: string, requirements: string, fetch: (scratch: string) => Promise<void>): Promise<string> {
  const { stdout: version } = await run('python3', ['-c', 'import sys; print(sys.version_info[:2])']);
  const stamp = createHash('sha256')
    .update(await readFile(requirements))
    .update(version)
    .digest('hex')
    .slice(0, 12);
  const target = path.join(tools, `python-${name}-${stamp}`);
  if (existsSync(target)) return target;
  await mkdir(tools, { recursive: true });
  const scratch = await mkdtemp(`${target}-`);
  try {
    await fetch(scratch);
    await rename(scratch, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
  return target;
}

/** Builds the package in `source` and installs it without its requirements. Returns a folder for PYTHONPATH. */
export async function installFromSource(source: string, folder: string): Promise<string> {
  const target = path.join(folder, 'package');
  await pip(['install', '--no-deps', '--target', target, source]);
  return target;
}
