/** The npm package of the command, installed into an empty folder without a network. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { passedOn } from '../support/environment.ts';
import { startKura } from './support/kura.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');

interface Package {
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

test.serial('the package runs with its declared dependencies only, and stores and reads an object', async (t) => {
  const { server, folder, home, tokenFile } = await startKura(t);
  const [packages, empty] = [path.join(folder, 'packages'), path.join(folder, 'empty')];
  await Promise.all([packages, empty].map((each) => mkdir(each)));
  const environment = { ...passedOn, HOME: home };
  await run(process.execPath, [path.join(root, 'scripts', 'pack-cli.ts'), packages], { cwd: root, env: environment });
  const [tarball] = await readdir(packages);
  const { version, dependencies } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as Package;
  t.is(tarball, `kura-cli-${version}.tgz`);

  // The dependencies come from this clone, so that no registry is needed.
  const { stdout: declared } = await run('tar', ['xOf', path.join(packages, tarball as string), 'package/package.json']);
  const needed = (JSON.parse(declared) as Package).dependencies ?? {};
  t.is(needed.undici, dependencies?.undici);
  t.deepEqual(Object.keys(needed), ['cli-progress', 'commander', 'undici', 'yaml']);
  const folders = await withDependencies(Object.keys(needed));
  await run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', packages, ...folders], { cwd: folder, env: environment });
  await writeFile(path.join(empty, 'package.json'), '{}');
  const tarballs = (await readdir(packages)).map((name) => path.join(packages, name));
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', ...tarballs], { cwd: empty, env: environment });

  const kura = path.join(empty, 'node_modules', '.bin', 'kura');
  const variables = { ...environment, KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile };
  t.is((await run(kura, ['--version'], { cwd: empty, env: variables })).stdout, `${version}\n`);
  const plugin = path.join(empty, 'node_modules', '.bin', 'kubectl-kura');
  t.regex((await run(plugin, ['--help'], { cwd: empty, env: variables })).stdout, /^Usage: kubectl kura /);
  await run(kura, ['put', 'package.json', 'vision/'], { cwd: empty, env: variables });
  t.true(server.objects.has('vision/package.json'));
  t.regex((await run(kura, ['get', 'vision/package.json'], { cwd: empty, env: variables })).stdout, /"kura-cli"/);
});

/** The folders of packages and of everything that they need. */
async function withDependencies(names: readonly string[]): Promise<string[]> {
  const folders = new Set(names.map((name) => folderOf(name, root)));
  for (const folder of folders) {
    const text = await readFile(path.join(folder, 'package.json'), 'utf8');
    for (const name of Object.keys((JSON.parse(text) as Package).dependencies ?? {})) folders.add(folderOf(name, folder));
  }
  return [...folders];
}

/** Where Node finds a package for the files in `folder`. */
function folderOf(name: string, folder: string): string {
  const found = path.join(folder, 'node_modules', name);
  return existsSync(found) || folder === root ? found : folderOf(name, path.dirname(folder));
}
