/** `npm start` from the user's view: its output, its files, restarts after crashes, and what it leaves behind. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { parse, stringify } from 'yaml';
import { temporaryFolder } from '../support/service.ts';
import { claimsOf } from '../support/tokens.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const main = path.join(root, 'services', 'local', 'main.ts');

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function accepts(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port) });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

test.serial('Ctrl-C stops everything: no process, socket or port remains, and the next start finds the objects', async (t) => {
  const state = await mkdtemp(path.join(tmpdir(), 'kura-e2e-'));
  t.teardown(() => rm(state, { recursive: true, force: true }));
  const first = await startLocalSystem({ stateDirectory: state, args: ['--shards', '2'] });
  const local = await first.local();
  t.is(local.shards.length, 2);
  t.is((await first.call({ as: 'nlp/trainer', method: 'PUT', path: '/objects/nlp/kept', body: 'kept' })).status, 201);
  t.true((await readdir(state)).includes('authz.sock'));

  first.child.kill('SIGINT');
  const [status] = await once(first.child, 'exit');
  t.is(status, 0);
  for (const [name, pid] of Object.entries(local.processes)) t.false(isRunning(pid), name);
  for (const url of [local.url, local.envoyAdminUrl, ...local.shards.map((shard) => shard.url)]) t.false(await accepts(url), url);
  const left = await readdir(state);
  t.false(left.includes('authz.sock'));
  t.false(left.includes('local.json'));
  await first.kubernetes.close();

  const second = await startLocalSystem({ stateDirectory: state, args: ['--shards', '2'] });
  t.teardown(() => second.stop());
  t.is((await second.call({ as: 'nlp/trainer', path: '/objects/nlp/kept' })).body.toString(), 'kept');
});

test.serial('the processes die with a supervisor that is killed, and the next start works', async (t) => {
  const state = await mkdtemp(path.join(tmpdir(), 'kura-e2e-'));
  t.teardown(() => rm(state, { recursive: true, force: true }));
  const first = await startLocalSystem({ stateDirectory: state, args: ['--shards', '1'] });
  const { processes } = await first.local();
  first.child.kill('SIGKILL');
  await waitFor('all its processes are gone', () => !Object.values(processes).some(isRunning));
  await first.kubernetes.close();
  const second = await startLocalSystem({ stateDirectory: state, args: ['--shards', '1'] });
  t.teardown(() => second.stop());
  t.is((await second.call({ as: 'vision/trainer', path: '/objects/vision/x' })).status, 404);
});

test.serial('it prints the next commands, restarts crashed processes, reports the restarts, and keeps local.json current', async (t) => {
  const system: LocalSystem = await startLocalSystem({ args: ['--shards', '2'] });
  t.teardown(() => system.stop());
  await waitFor('the greeting', () => /Ctrl-C stops everything/.test(system.output()));
  const { url, policy } = await system.local();
  t.true(system.output().includes(`-T README.md ${url}/objects/vision/hello`));
  t.true(system.output().includes(`Policy: ${policy} `));
  for (const name of ['kura-cache-0', 'authz', 'eds', 'envoy', 'kubernetes']) {
    const former = await system.signal(name, 'SIGKILL');
    const pid = await system.restarted(name, former);
    t.true(isRunning(pid));
    t.regex(system.output(), new RegExp(`${name} was killed by SIGKILL; starting it again`));
  }
  await waitFor('it serves again', async () => (await system.call({ as: 'vision/eval', path: '/objects/vision/x' })).status === 404);
});

test.serial('token files are renewed before they expire', async (t) => {
  const system = await startLocalSystem({ args: ['--shards', '1', '--token-seconds', '10'] });
  t.teardown(() => system.stop());
  const first = await system.token('vision/trainer');
  const expiresAt = claimsOf(first).exp as number;
  const renewed = await waitFor(
    'another token',
    async () => {
      const token = await system.token('vision/trainer');
      return token !== first && token;
    },
    { withinMs: 15_000 },
  );
  t.true(Date.now() / 1000 < expiresAt);
  t.true((claimsOf(renewed).exp as number) > expiresAt);
});

test.serial('with --kubeconfig another cluster provides the tokens, and its credential plugin gets the environment', async (t) => {
  const other = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => other.stop());
  const folder = await temporaryFolder(t);
  const kubeconfig = await withExecPlugin((await other.local()).kubeconfig, folder);
  const system = await startLocalSystem({
    args: ['--shards', '1', '--kubeconfig', kubeconfig],
    environment: { CLUSTER_TOKEN: path.join(folder, 'token') },
  });
  t.teardown(() => system.stop());
  t.regex(system.output(), /npm run epoch -- node_modules --local \S+ --token-file TOKEN_FILE --prefix NAMESPACE\/hello/);
  const { tokens, policy } = await system.local();
  t.deepEqual(tokens, {});
  t.is(policy, null);
  const token = await other.token('nlp/trainer');
  t.is((await system.call({ path: '/objects/nlp/x', method: 'PUT', body: 'x', token })).status, 201);
  t.is((await system.call({ path: '/objects/nlp/x', token })).body.toString(), 'x');
});

/**
 * Replaces the token of the kubeconfig by a credential plugin, as cloud providers do. The plugin prints the file that an environment
 * variable names.
 */
async function withExecPlugin(kubeconfig: string, folder: string): Promise<string> {
  const config = parse(await readFile(kubeconfig, 'utf8')) as { users: [{ user: { token?: string; tokenFile?: string; exec?: unknown } }] };
  const { user } = config.users[0];
  await writeFile(path.join(folder, 'token'), user.token ?? (await readFile(user.tokenFile as string, 'utf8')));
  const plugin = path.join(folder, 'plugin');
  const credential = `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}`;
  await writeFile(plugin, `#!/bin/sh\nprintf '${credential}' "$(cat "$CLUSTER_TOKEN")"\n`);
  await chmod(plugin, 0o755);
  config.users[0].user = { exec: { apiVersion: 'client.authentication.k8s.io/v1', command: plugin, interactiveMode: 'Never' } };
  const file = path.join(folder, 'kubeconfig');
  await writeFile(file, stringify(config));
  return file;
}

test.serial('it does not become ready without a policy, and reports the reason', async (t) => {
  const state = await temporaryFolder(t);
  await writeFile(path.join(state, 'policy.yaml'), 'apiVersion: kura/v1\nkind: AccessPolicy\nrulez: []\n');
  const error = await t.throwsAsync(run(process.execPath, [main, '--state', state, '--port', '0', '--shards', '1']));
  const { stdout } = error as unknown as { stdout: string };
  t.regex(stdout, /kura did not start: authz is not ready after 10 s: no policy yet: the policy is rejected: line 3, column 1: /);
  t.regex(stdout, /line 3, column 1: .*rulez/);
  t.false(existsSync(path.join(state, 'local.json')));
});

for (const part of ['kubernetes', 'tokens', 'authz.sock', 'envoy.yaml']) {
  test.serial(`Ctrl-C during the start, when ${part} exists, leaves nothing behind`, async (t) => {
    const state = await temporaryFolder(t);
    const child = spawn(process.execPath, [main, '--state', state, '--port', '0', '--shards', '2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    let output = '';
    child.stdout.on('data', (chunk) => (output += chunk));
    await waitFor(`${part} exists`, () => existsSync(path.join(state, part)), { everyMs: 2 });
    child.kill('SIGINT');
    const [status] = await ended;
    // Envoy may have been fast enough for the system to be ready.
    t.is(status, output.includes('kura is ready') ? 0 : 130, output);
    t.deepEqual(
      ['authz.sock', 'local.json'].filter((name) => existsSync(path.join(state, name))),
      [],
      output,
    );
    const { stdout } = await run('ps', ['-eo', 'args']);
    t.false(stdout.includes(state), stdout);
  });
}

test.serial('it stops cleanly when its output is closed', async (t) => {
  const state = await temporaryFolder(t);
  const child = spawn(process.execPath, [main, '--state', state, '--port', '0', '--shards', '1'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'exit');
  let errorOutput = '';
  child.stderr.on('data', (chunk) => (errorOutput += chunk));
  child.stdout.once('data', () => child.stdout.destroy());
  t.deepEqual(await ended, [130, null]);
  t.is(errorOutput, '');
  t.false(existsSync(path.join(state, 'local.json')));
});

test.serial('settings of the services are passed to them', async (t) => {
  const state = await temporaryFolder(t);
  const words = [main, '--state', state, '--port', '0', '--shards', '1'];
  const environment = { ...process.env, KURA_EDS_DEBOUNCE: 'soon' };
  const error = await t.throwsAsync(run(process.execPath, words, { env: environment }));
  const { stdout } = error as unknown as { stdout: string };
  t.regex(stdout, /KURA_EDS_DEBOUNCE="soon" is not a duration/);
  t.regex(stdout, /kura did not start: eds ended with status 2 before it was ready/);
});

test.serial('a second system on the same folder is rejected in one line', async (t) => {
  const system = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => system.stop());
  const second = spawn(process.execPath, [main, '--state', system.stateDirectory, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  second.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const [status] = await once(second, 'exit');
  t.is(status, 1);
  t.regex(output, /another kura system uses .*: stop that system, or choose another folder with --state/);
  t.is((await system.call({ as: 'vision/trainer', path: '/objects/vision/x' })).status, 404);
});

test.serial('a folder is locked under every name', async (t) => {
  const system = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => system.stop());
  const link = `${system.stateDirectory}-link`;
  await symlink(system.stateDirectory, link);
  t.teardown(() => rm(link));
  const before = await system.local();
  const error = await t.throwsAsync(run(process.execPath, [main, '--state', link, '--port', '0']));
  t.regex((error as unknown as { stdout: string }).stdout, /another kura system uses /);
  t.deepEqual(await system.local(), before);
});

test.serial('a port that is in use is reported', async (t) => {
  const system = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => system.stop());
  const state = await mkdtemp(path.join(tmpdir(), 'kura-e2e-'));
  t.teardown(() => rm(state, { recursive: true, force: true }));
  const { port } = new URL((await system.local()).url);
  const error = await t.throwsAsync(run(process.execPath, [main, '--state', state, '--port', port]));
  t.regex((error as unknown as { stdout: string }).stdout, new RegExp(`port ${port} is in use: choose another port with --port`));
});

for (const [words, complaint] of [
  [['--port', '70000'], /--port.*must be a whole number from 0 to 65535/],
  [['--shards', '0'], /--shards.*must be a whole number from 1 to 64/],
  [['--shard-bytes', '3 apples'], /--shard-bytes.*not a size/],
  [['--shard-bytes', '15Mi'], /--shard-bytes.*not between 16Mi and 1024Ti/],
  [['--shard-bytes', '1025Ti'], /--shard-bytes.*not between 16Mi and 1024Ti/],
  [['--kubeconfig', '/does/not/exist'], /\/does\/not\/exist/],
  [['--origin', '/data'], /--origin.*"\/data" must be PREFIX=DIR or PREFIX=URL/],
  [['--origin', 'vision=/tmp'], /--origin.*"vision" must end with a slash/],
  [['--origin', 'vision/=/does/not/exist'], /--origin.*The folder of "vision\/=\/does\/not\/exist" does not exist/],
  [['--origin', `vision/=${main}`], /--origin.*main\.ts is not a folder/],
  [['--origin', 'vision/=/tmp', '--origin', 'vision/a/=/tmp'], /--origin.*overlap/],
  [['--origin', 'vision/=/tmp', '--kubeconfig', main], /--origin.*cannot be used with.*--kubeconfig/],
  [['--shard', '3'], /unknown option/],
] as const) {
  test(`${words.join(' ')} is rejected before anything starts`, async (t) => {
    const error = await t.throwsAsync(run(process.execPath, [main, ...words]));
    const { stdout, stderr } = error as unknown as { stdout: string; stderr: string };
    t.regex(stdout + stderr, complaint);
  });
}

test('--help names every option', async (t) => {
  const { stdout } = await run(process.execPath, [main, '--help']);
  for (const option of ['--state', '--port', '--shards', '--shard-bytes', '--kubeconfig', '--origin', '--token-seconds'])
    t.true(stdout.includes(option), option);
});
