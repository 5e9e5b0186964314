/** What an operator does to the policy with the real kubectl, on the fake Kubernetes API: `npm start` promises that its kubeconfig works. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { stringify } from 'yaml';
import { type Service, startService } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { binariesDirectory } from './plane/plane.ts';
import { createKubectl, type Kubectl } from './support/kubectl.ts';

const test = anyTest as TestFn;
const system = ['-n', 'kura-system'];
let folder: string;
let api: Service;
let kubeconfig: string;
let kubectl: Kubectl;

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-kubectl-'));
  const directory = path.join(folder, 'kubernetes');
  api = await startService('fake-kubernetes', { KURA_KUBERNETES_LISTEN: '127.0.0.1:0', KURA_KUBERNETES_DIRECTORY: directory });
  kubeconfig = path.join(directory, 'admin.kubeconfig');
  kubectl = createKubectl({ kubeconfig, cache: path.join(folder, 'cache') });
  await apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'kura-system' } });
});
test.after.always(async () => {
  await api?.stop('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

/** `kubectl VERB -f` of one object, without --validate=false. */
async function apply(object: object, verb = 'apply'): Promise<string> {
  const file = path.join(folder, 'object.yaml');
  await writeFile(file, stringify(object));
  return await kubectl.ok(verb, '-f', file);
}

function policy(text: string): object {
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'kura-policy', namespace: 'kura-system' },
    data: { 'policy.yaml': text },
  };
}

async function text(): Promise<string> {
  return await kubectl.ok(...system, 'get', 'configmap', 'kura-policy', '-o', 'jsonpath={.data.policy\\.yaml}');
}

test.serial('apply creates, changes and keeps a ConfigMap, and removes a key that its file no longer has', async (t) => {
  t.regex(await apply(policy('mode: enforce')), /configmap\/kura-policy created/);
  t.regex(await apply(policy('mode: dryRun')), /configmap\/kura-policy configured/);
  t.regex(await apply(policy('mode: dryRun')), /configmap\/kura-policy unchanged/);
  t.is(await text(), 'mode: dryRun');
  await apply({ ...policy(''), data: { 'policy.next.yaml': 'x' } });
  t.is(await text(), '');
  t.regex(await kubectl.ok(...system, 'get', 'cm'), /^NAME +AGE\nkura-policy +\d+s\n$/);
});

test.serial('edit and patch --type=merge change it, and a watch has each change', async (t) => {
  await apply(policy('mode: enforce'));
  const words = [
    `--kubeconfig=${kubeconfig}`,
    ...system,
    'get',
    'cm',
    'kura-policy',
    '--watch',
    '-o',
    'jsonpath={.data.policy\\.yaml}{"\\n"}',
  ];
  const watch = spawn(path.join(binariesDirectory, 'kubectl'), words, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(watch, 'exit');
  let seen = '';
  watch.stdout.on('data', (chunk) => (seen += chunk));
  t.teardown(async () => {
    watch.kill();
    await ended;
  });
  await waitFor('the watch has begun', () => seen === 'mode: enforce\n');
  await kubectl.ok(...system, 'patch', 'configmap', 'kura-policy', '--type=merge', '-p', '{"data":{"policy.yaml":"mode: patched"}}');
  const editor = path.join(folder, 'editor');
  await writeFile(editor, '#!/bin/sh\nsed -i "s/mode: patched/mode: edited/" "$1"\n');
  await chmod(editor, 0o755);
  process.env.KUBE_EDITOR = editor;
  t.regex(await kubectl.ok(...system, 'edit', 'configmap', 'kura-policy'), /configmap\/kura-policy edited/);
  t.is(await text(), 'mode: edited');
  await waitFor('the watch has both changes', () => seen === 'mode: enforce\nmode: patched\nmode: edited\n');
});

test.serial('describe, get and events show the Events of a ConfigMap', async (t) => {
  await apply(policy('mode: enforce'));
  const { metadata } = await kubectl.json<{ metadata: { uid: string } }>(...system, 'get', 'configmap', 'kura-policy');
  const at = new Date().toISOString().replace(/\.\d+/, '');
  await apply(
    {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'kura-policy.rejected', namespace: 'kura-system' },
      involvedObject: { apiVersion: 'v1', kind: 'ConfigMap', namespace: 'kura-system', name: 'kura-policy', uid: metadata.uid },
      reason: 'PolicyRejected',
      message: 'line 3: no such field',
      type: 'Warning',
      source: { component: 'kura-authz' },
      firstTimestamp: at,
      lastTimestamp: at,
      count: 1,
    },
    'create',
  );
  t.regex(
    await kubectl.ok(...system, 'describe', 'configmap', 'kura-policy'),
    /Warning +PolicyRejected .*kura-authz +line 3: no such field/,
  );
  t.regex(await kubectl.ok(...system, 'get', 'events'), /^kura-policy\.rejected /m);
  t.regex(await kubectl.ok(...system, 'events'), /Warning +PolicyRejected +ConfigMap\/kura-policy +line 3: no such field/);
});

test.serial('delete waits until it is gone, and what is not served fails with a reason', async (t) => {
  await apply(policy('mode: enforce'));
  const patch = await kubectl.run(...system, 'patch', 'cm', 'kura-policy', '--type=json', '-p', '[{"op":"remove","path":"/data"}]');
  t.is(patch.status, 1);
  t.regex(patch.stderr, /application\/json-patch\+json is not supported/);
  const dry = await kubectl.run(...system, 'delete', 'configmap', 'kura-policy', '--dry-run=server');
  t.is(dry.status, 1);
  t.regex(dry.stderr, /does not serve dryRun|doesn't support dry-run/);
  t.regex(await kubectl.ok(...system, 'delete', 'configmap', 'kura-policy'), /configmap "kura-policy" deleted/);
  const gone = await kubectl.run(...system, 'get', 'configmap', 'kura-policy');
  t.regex(gone.stderr, /^Error from server \(NotFound\): configmaps "kura-policy" not found/);
});
