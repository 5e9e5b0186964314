/** `kubectl kura` against a local system. A program plays kubectl, and forwards to the ports of the system. */
import { copyFile, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { withoutSecrets } from '../../services/cli/kubectl-kura/redaction.ts';
import { passedOn } from '../support/environment.ts';
import { runProgram } from '../support/program.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const test = anyTest as TestFn;
let system: LocalSystem;
test.before(async () => {
  system = await startLocalSystem({ args: ['--shards', '2'] });
});
test.after.always(() => system?.stop());

const credential = 'ab'.repeat(32);
const digest = `sha256:${'cd'.repeat(32)}`;
const ready = { conditions: [{ type: 'Ready', status: 'True' }] };

function pod(name: string, part: string): unknown {
  return { metadata: { name, labels: { 'app.kubernetes.io/name': part } }, spec: { containers: [{ name: 'main' }] }, status: ready };
}

interface Plugin {
  readonly folder: string;
  run(...words: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }>;
}

async function plugin(t: ExecutionContext, changes: Readonly<Record<string, unknown>> = {}): Promise<Plugin> {
  const folder = await temporaryFolder(t);
  const local = await system.local();
  const token = await system.token('vision/trainer');
  const host = (url: string): string => new URL(url).host;
  const cluster = {
    pods: [
      pod('kura-console-0', 'kura-console'),
      pod('kura-eds-0', 'kura-eds'),
      pod('kura-envoy-0', 'kura-envoy'),
      pod('kura-cache-0', 'kura-cache'),
      pod('kura-origin-0', 'kura-origin'),
    ],
    forwards: {
      'kura-console-0:18200': host(local.consoleUrl),
      'kura-eds-0:9904': host(local.eds.metricsUrl),
      'kura-envoy-0:9901': host(local.envoyAdminUrl),
    },
    texts: {
      'get configmap kura-policy -o jsonpath={.data.policy\\.yaml}': 'kind: AccessPolicy\n',
      'get configmap kura-origins -o jsonpath={.data.origins\\.yaml}': 'kind: Origins\n',
      'get ': `kind: List\nimageID: ${digest}\nstringData: {keys: "${credential}"}\n`,
      'logs ': `{"msg":"bad caller","authorization":"Bearer ${token}","url":"/x?ticket=${'q'.repeat(40)}"}\n`,
      version: 'Client Version: v1.36.3\n',
    },
    ...changes,
  };
  await mkdir(path.join(folder, 'bin'));
  await writeFile(path.join(folder, 'cluster.json'), JSON.stringify(cluster));
  await copyFile(path.join(root, 'test', 'cli', 'support', 'kubectl.mjs'), path.join(folder, 'bin', 'kubectl'));
  const environment = { PATH: `${folder}/bin:${path.dirname(process.execPath)}:${passedOn.PATH}`, FAKE_CLUSTER: `${folder}/cluster.json` };
  return {
    folder,
    run: async (...words) => {
      const { status, stdout, stderr } = await runProgram('services/cli/kubectl-kura/main.ts', words, { cwd: folder, environment });
      return { status, stdout: stdout.toString(), stderr };
    },
  };
}

test.serial('status and top print the shards as the console knows them', async (t) => {
  await system.call({ as: 'vision/trainer', method: 'PUT', path: '/objects/vision/plugin', body: 'x' });
  const { run } = await plugin(t);
  const { shards } = await system.local();
  // The console asks the shards every 5 s while somebody looks.
  const { stdout } = await waitFor('the numbers of both shards, with the object', async () => {
    const ended = await run('status');
    return ended.status === 0 && /^vision +1 /m.test(ended.stdout) && ended;
  });
  for (const { name } of shards) t.regex(stdout, new RegExp(`^${name} +serving `, 'm'));
  t.regex(stdout, /^2 of 2 /m);
  const { status, stdout: rates } = await run('top', '--interval', '1', '--times', '1', '--json');
  t.is(status, 0);
  t.deepEqual((JSON.parse(rates) as { name: string }[]).map(({ name }) => name).sort(), shards.map(({ name }) => name).sort());
});

test.serial('policy and origins print the documents in force as files', async (t) => {
  const { run } = await plugin(t);
  t.deepEqual(await run('policy'), { status: 0, stdout: 'kind: AccessPolicy\n', stderr: '' });
  t.deepEqual(await run('origins'), { status: 0, stdout: 'kind: Origins\n', stderr: '' });
});

test.serial('a support bundle has logs, objects, streams and the configuration of Envoy, and no secret', async (t) => {
  const { folder, run } = await plugin(t);
  const { status, stdout, stderr } = await run('support-bundle', 'bundle');
  t.is(status, 0, stderr);
  const names = (await readdir(path.join(folder, 'bundle'))).sort();
  t.regex(stdout, new RegExp(`^${names.length} files in bundle; read them before you send them\n$`));
  const expected = [
    'pods.yaml',
    'endpointslices.yaml',
    'policy.yaml',
    'origins.yaml',
    'kura-origin-0.log',
    'kura-envoy-0.config_dump',
    'kura-envoy-0.clusters',
    'kura-cache-0.log',
  ];
  for (const name of [...expected, 'kura-eds-0.debug-streams', 'kura-console-0.status.json']) t.true(names.includes(name), name);
  const texts = await Promise.all(names.map((name) => readFile(path.join(folder, 'bundle', name), 'utf8')));
  const all = texts.join('\n');
  const token = await system.token('vision/trainer');
  for (const secret of [token, token.split('.')[2] as string, credential, 'q'.repeat(40)]) t.false(all.includes(secret), secret);
  t.true(all.includes('<removed>') && all.includes(digest));
  // The dump is still JSON, and has the assignment.
  t.true('configs' in JSON.parse(texts[names.indexOf('kura-envoy-0.config_dump')] as string));
});

test.serial('a bundle of a broken cluster has what can be read, and names the rest', async (t) => {
  const { folder, run } = await plugin(t, { forwards: {} });
  const { status, stderr } = await run('support-bundle', 'bundle');
  t.is(status, 1);
  t.regex(stderr, /kura-envoy-0\.config_dump: kubectl port-forward: error: unable to forward port 9901 of kura-envoy-0/);
  t.is(await readFile(path.join(folder, 'bundle', 'faults.txt'), 'utf8'), stderr.replaceAll('kubectl kura: ', ''));
  t.true((await readdir(path.join(folder, 'bundle'))).includes('kura-cache-0.log'));
  t.regex((await run('support-bundle', 'bundle')).stderr, /EEXIST/);
});

test.serial('what is missing is one line', async (t) => {
  const { run, folder } = await plugin(t, { pods: [] });
  t.deepEqual(await run('status'), {
    status: 1,
    stdout: '',
    stderr: 'kubectl kura: no Pod of the console exists: add the component console, and check --namespace\n',
  });
  const { stderr } = await run('-n', 'other', 'status');
  t.is(stderr, 'kubectl kura: kubectl: error: the namespace is not kura-system\n');
  // The test itself starts programs with setpriv.
  const environment = { PATH: path.join(folder, 'none') };
  await mkdir(environment.PATH);
  await symlink('/usr/bin/setpriv', path.join(environment.PATH, 'setpriv'));
  const none = await runProgram('services/cli/kubectl-kura/main.ts', ['policy'], { environment });
  t.deepEqual([none.status, none.stderr], [2, 'kubectl kura: kubectl is not in the PATH: install it\n']);
});

test('only secrets are removed', (t) => {
  const jwt = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(30)}.${'b'.repeat(30)}`;
  for (const [text, expected] of [
    [`x ${jwt} y`, 'x <removed> y'],
    ['Authorization: Basic dXNlcjpwYXNz', 'Authorization: "<removed>" <removed>'],
    ['terms: max-object-bytes=1; exp=2; sig=abcdefghij', 'terms: max-object-bytes=1; exp=2; sig=<removed>'],
    ['"inline_bytes": "c2VjcmV0"', '"inline_bytes": "<removed>"'],
    ['-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----', '<removed>'],
    ['client-key-data: LS0t', 'client-key-data: "<removed>"'],
  ] as const)
    t.is(withoutSecrets(text), expected);
  for (const text of [`image: kura@${digest}`, 'keys: [_shared/]', 'kura_authz_remembered_tokens 5', 'token audience kura', '"tokens": 3'])
    t.is(withoutSecrets(text), text);
});
