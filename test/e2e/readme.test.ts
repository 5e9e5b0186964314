/** Runs every command of the README unchanged, except for the port and the state folder. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import test from 'ava';
import { parse } from 'yaml';
import type { LocalFile } from '../../services/local/local-file.ts';
import { waitFor } from '../support/wait.ts';
import { root, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const readme = await readFile(path.join(root, 'README.md'), 'utf8');
const commands = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block]) => (block as string).trim().split('\n'));

/** The required output of each command. The test fails for a command without an entry. */
const expected: Readonly<Record<string, RegExp>> = {
  'curl -T': /^$/,
  curl: /^# kura\n/,
  'curl -i': /^HTTP\/1\.1 403 [\s\S]*"status":403/,
  'npm run epoch': /epoch 2[\s\S]*\b100(\.0+)? ?%/i,
  'npm run check': /ok +types[\s\S]*ok +generated types/,
};

function kindOf(command: string): string {
  if (command.startsWith('curl')) return ['curl', ...(/ (-T|-i) /.exec(command)?.slice(1) ?? [])].join(' ');
  return command.split(' ').slice(0, 3).join(' ');
}

test.serial('the README’s commands do what it says', async (t) => {
  t.timeout(10 * 60_000);
  const state = await mkdtemp(path.join(tmpdir(), 'kura-readme-'));
  t.teardown(() => rm(state, { recursive: true, force: true }));
  t.is(commands.shift(), 'npm start');
  // A separate process group, because Ctrl-C at a terminal reaches npm and all its child processes.
  const words = ['--pdeathsig', 'TERM', '--', 'npm', 'start', '--', '--state', state, '--port', '0'];
  const start = spawn('setpriv', words, { cwd: root, stdio: 'ignore', detached: true });
  const interrupt = (): boolean => start.exitCode !== null || process.kill(-(start.pid as number), 'SIGINT');
  t.teardown(async () => {
    if (start.exitCode !== null) return;
    interrupt();
    await once(start, 'exit');
  });
  const localFile = path.join(state, 'local.json');
  const { url } = await waitFor('npm start is ready', async () => JSON.parse(await readFile(localFile, 'utf8')) as LocalFile, {
    withinMs: 60_000,
  });

  for (const command of commands) {
    if (command === 'npm test') {
      t.regex(await readFile(path.join(root, '.ci', 'run'), 'utf8'), /^npm test$/m);
      continue;
    }
    const here = command.replaceAll('.kura/', `${state}/`).replaceAll('http://127.0.0.1:8080', url);
    const typed = command.startsWith('npm run epoch') ? `${here} --local ${localFile}` : here;
    const { stdout } = await run('bash', ['-c', typed], { cwd: root, maxBuffer: 2 ** 26 });
    const pattern = expected[kindOf(command)];
    if (pattern === undefined) t.fail(`no expected output for the README's command: ${command}`);
    else t.regex(stdout, pattern, command);
  }

  interrupt();
  const [status] = await once(start, 'exit');
  t.is(status, 0);
});

test('the README’s Pod gets a token, where it looks for it, that the cache takes', async (t) => {
  const pod = parse(/^```yaml\n(.*?)^```$/ms.exec(readme)?.[1] as string) as V1Pod;
  const { namespace, name } = pod.metadata as { namespace: string; name: string };
  const [container] = pod.spec?.containers ?? [];
  const [volume] = pod.spec?.volumes ?? [];
  const [mount] = container?.volumeMounts ?? [];
  const projection = volume?.projected?.sources?.[0]?.serviceAccountToken;
  t.is(mount?.name, volume?.name);
  t.is(container?.env?.find((variable) => variable.name === 'KURA_TOKEN_FILE')?.value, `${mount?.mountPath}/${projection?.path}`);

  const system = await startLocalSystem({ args: ['--shards', '1'] });
  t.teardown(() => system.stop());
  const core = system.kubernetes.api(CoreV1Api);
  await core.createNamespacedPod({ namespace, body: pod });
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace,
    name: pod.spec?.serviceAccountName as string,
    body: {
      spec: {
        audiences: [projection?.audience as string],
        expirationSeconds: projection?.expirationSeconds as number,
        boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name },
      },
    },
  });
  t.is((await system.call({ path: `/objects/${namespace}/hello`, token: status?.token as string })).status, 404);
});

test('the README’s links lead to files', async (t) => {
  for (const [, target] of readme.matchAll(/\]\(([^)#]+)\)/g)) await t.notThrowsAsync(readFile(path.join(root, target as string)), target);
});
