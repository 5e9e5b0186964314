/**
 * `npm run pack:cli [-- FOLDER]`: writes the npm package of the `kura` command, such as `kura-cli-0.2.0.tgz`, to FOLDER (default: the
 * current folder). It holds compiled JavaScript, and depends only on the packages that the command imports.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

interface Package {
  readonly version: string;
  readonly license: string;
  readonly engines: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
}

const root = path.resolve(import.meta.dirname, '..');
const target = path.resolve(process.env.INIT_CWD ?? process.cwd(), process.argv[2] ?? '.');
const stage = mkdtempSync(path.join(tmpdir(), 'kura-pack-'));
try {
  const compiler = path.join(root, 'node_modules', '.bin', 'tsc');
  execFileSync(compiler, ['--project', path.join(root, 'services', 'cli'), '--outDir', stage], { stdio: 'inherit' });
  const { version, license, engines, dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Package;
  const description = {
    name: 'kura-cli',
    version,
    description: 'The kura command, a client of a cache for training data',
    license,
    type: 'module',
    engines,
    bin: { kura: 'services/cli/main.js', 'kubectl-kura': 'services/cli/kubectl-kura/main.js' },
    dependencies: Object.fromEntries(importedPackages(stage).map((name) => [name, versionOf(name, dependencies)])),
  };
  writeFileSync(path.join(stage, 'package.json'), `${JSON.stringify(description, undefined, 2)}\n`);
  cpSync(path.join(root, 'services', 'cli', 'README.md'), path.join(stage, 'README.md'));
  cpSync(path.join(root, 'LICENSE'), path.join(stage, 'LICENSE'));
  execFileSync('npm', ['pack', '--silent', '--pack-destination', target, stage], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
} finally {
  rmSync(stage, { recursive: true });
}

/** The names of the packages that the compiled files import. */
function importedPackages(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'))
    .flatMap((name) => [...readFileSync(path.join(folder, name), 'utf8').matchAll(/\b(?:from|import\()\s*['"]([^'"]+)['"]/g)])
    .map((match) => match[1] as string)
    .filter((specifier) => !specifier.startsWith('.') && !specifier.startsWith('node:'));
  return [...new Set(names)].sort();
}

function versionOf(name: string, dependencies: Package['dependencies']): string {
  const version = dependencies[name];
  if (version === undefined) throw new Error(`the command imports ${name}, which is not in the dependencies of package.json`);
  return version;
}
