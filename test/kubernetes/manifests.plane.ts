/** The manifests as the real API server takes them: validated strictly, admitted without a warning, and selecting what they mean. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { parseAllDocuments } from 'yaml';
import { waitFor } from '../support/wait.ts';
import { binariesDirectory, type Plane, startPlane } from './plane/plane.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const manifests = ['base', ...(await readdir(path.join(root, 'k8s', 'overlays'))).map((overlay) => `overlays/${overlay}`)];
/** The test makes the namespace without kubectl's own note of what it applied; and the API server here is newer than those that know nothing else. */
const expectedWarnings = [
  'Warning: resource namespaces/kura-system is missing the kubectl.kubernetes.io/last-applied-configuration annotation',
  'Warning: spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
];
const test = anyTest as TestFn;
let folder: string;
let plane: Plane;

interface Output {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function kubectl(...args: readonly string[]): Promise<Output> {
  const words = [`--kubeconfig=${plane.kubeconfig}`, `--cache-dir=${path.join(folder, 'kubectl')}`, ...args];
  return await run(path.join(binariesDirectory, 'kubectl'), words, { cwd: root, maxBuffer: 2 ** 26 }).then(
    ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ status: code, stdout, stderr }),
  );
}

async function json<T>(...args: readonly string[]): Promise<T> {
  const { stdout } = await kubectl(...args, '-o', 'json');
  return JSON.parse(stdout) as T;
}

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-plane-'));
  plane = await startPlane({ directory: path.join(folder, 'plane'), disableAdmission: 'DefaultStorageClass' });
  await kubectl('create', 'namespace', 'kura-system');
});
test.after.always(async () => {
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

for (const name of manifests) {
  test.serial(`k8s/${name} is taken by the API server without a word of warning`, async (t) => {
    const { status, stdout, stderr } = await kubectl('apply', '--dry-run=server', '--validate=strict', '-k', `k8s/${name}`);
    t.deepEqual(
      stderr.split('\n').filter((line) => line !== '' && !expectedWarnings.some((warning) => line.startsWith(warning))),
      [],
    );
    t.is(status, 0, stdout);
  });
}

test.serial('the example of a workload is taken in its own namespace', async (t) => {
  await kubectl('create', 'namespace', 'vision');
  await kubectl('label', 'namespace', 'vision', 'pod-security.kubernetes.io/warn=restricted');
  const { status, stdout, stderr } = await kubectl('apply', '--validate=strict', '-f', 'k8s/examples/train.yaml');
  t.is(stderr, '');
  t.is(status, 0, stdout);
});

test.serial('a field that the API does not know fails', async (t) => {
  const file = path.join(folder, 'unknown');
  await mkdir(file);
  await writeFile(
    path.join(file, 'kustomization.yaml'),
    `resources: [${path.relative(file, path.join(root, 'k8s', 'base'))}]\npatches:\n  - target: { kind: StatefulSet }\n    patch: '[{"op": "add", "path": "/spec/replica", "value": 3}]'\n`,
  );
  const { status, stderr } = await kubectl('apply', '--dry-run=server', '--validate=strict', '-k', file);
  t.is(status, 1);
  t.regex(stderr, /unknown field "spec\.replica"/);
});

test.serial('applied for real, the controllers make the Pods, and every selector finds them', async (t) => {
  const { status, stdout, stderr } = await kubectl('apply', '--validate=strict', '-k', 'k8s/base');
  t.is(status, 0, stderr);
  t.regex(stdout, /statefulset\.apps\/kura-cache created/);
  interface List {
    items: { metadata: { name: string; labels: Record<string, string> }; spec: Record<string, unknown> }[];
  }
  const wanted = { 'kura-cache': 4, 'kura-envoy': 6, 'kura-eds': 2 };
  const pods = await waitFor('all Pods are there', async () => {
    const { items } = await json<List>('-n', 'kura-system', 'get', 'pods');
    return items.length === 12 && items;
  });
  const select = (labels: Record<string, string>): number =>
    pods.filter(({ metadata }) => Object.entries(labels).every(([key, value]) => metadata.labels[key] === value)).length;
  for (const kind of ['poddisruptionbudgets', 'networkpolicies', 'services']) {
    const { items } = await json<List>('-n', 'kura-system', 'get', kind);
    const counts = items.map(({ metadata, spec }) => {
      const { selector, podSelector } = spec as {
        selector?: { matchLabels?: Record<string, string> } & Record<string, string>;
        podSelector?: { matchLabels: Record<string, string> };
      };
      return [metadata.name, select(podSelector?.matchLabels ?? selector?.matchLabels ?? (selector as Record<string, string>))];
    });
    const expected = kind === 'services' ? { kura: 6, 'kura-cache': 4, 'kura-eds': 2 } : wanted;
    t.deepEqual(Object.fromEntries(counts), expected, kind);
  }
  const slices = await waitFor('an EndpointSlice', async () => {
    const { items } = await json<{ items: { ports: { name: string; port: number }[] }[] }>(
      '-n',
      'kura-system',
      'get',
      'endpointslices',
      '-l',
      'kubernetes.io/service-name=kura-cache',
    );
    return items.length > 0 && items;
  });
  t.truthy(slices);
});

for (const [account, allowed] of [
  [
    'kura-envoy',
    [
      ['create', 'tokenreviews.authentication.k8s.io'],
      ['list', 'pods', '-A'],
      ['watch', 'pods', '-A'],
      ['list', 'namespaces'],
      ['watch', 'namespaces'],
      ['list', 'configmaps/kura-policy', '-n', 'kura-system'],
      ['watch', 'configmaps/kura-policy', '-n', 'kura-system'],
      ['create', 'events', '-n', 'kura-system'],
    ],
  ],
  [
    'kura-eds',
    [
      ['list', 'endpointslices.discovery.k8s.io', '-n', 'kura-system'],
      ['watch', 'endpointslices.discovery.k8s.io', '-n', 'kura-system'],
      ['list', 'pods', '-n', 'kura-system'],
      ['watch', 'pods', '-n', 'kura-system'],
    ],
  ],
] as const) {
  test.serial(`${account} may do what it needs and nothing near it`, async (t) => {
    const mayI = async (...words: readonly string[]): Promise<string> => {
      const { stdout } = await kubectl('auth', 'can-i', `--as=system:serviceaccount:kura-system:${account}`, ...words);
      return stdout.trim();
    };
    for (const words of allowed) t.is(await mayI(...words), 'yes', words.join(' '));
    for (const words of [
      ['get', 'secrets', '-A'],
      ['create', 'pods', '-A'],
      ['delete', 'pods', '-n', 'kura-system'],
      ['update', 'configmaps/kura-policy', '-n', 'kura-system'],
      ['list', 'configmaps', '-n', 'kura-system'],
      ['create', 'serviceaccounts/token', '-n', 'kura-system'],
      ['list', 'secrets', '-n', 'kura-system'],
    ])
      t.is(await mayI(...words), 'no', words.join(' '));
  });
}

test('workloads reach shards, and are told where they are, only with the overlay direct', async (t) => {
  interface Object {
    kind: string;
    metadata: { name: string };
    spec: {
      ingress: { from: object[]; ports: object[] }[];
      template: { spec: { containers: { env: { name: string; valueFrom?: object }[] }[] } };
    };
  }
  for (const name of manifests) {
    const { stdout } = await kubectl('kustomize', `k8s/${name}`);
    const objects = parseAllDocuments(stdout).map((document) => document.toJS() as Object);
    const find = (...kinds: string[]) => objects.find(({ kind, metadata }) => kinds.includes(kind) && metadata.name === 'kura-cache')?.spec;
    const others = find('NetworkPolicy')?.ingress.filter(
      ({ from, ports }) => !JSON.stringify(from).includes('kura-envoy') && !JSON.stringify(ports).includes('metrics'),
    );
    const told = find('StatefulSet', 'DaemonSet')?.template.spec.containers[0]?.env.filter(
      ({ name: each }) => each === 'KURA_CACHE_ADVERTISE',
    );
    const isOpen = name === 'overlays/direct';
    t.deepEqual(others, isOpen ? [{ from: [{ namespaceSelector: {} }], ports: [{ port: 'shard-0' }] }] : [], name);
    const pod = { name: 'KURA_CACHE_ADVERTISE', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } };
    t.deepEqual(told, isOpen ? [pod] : [], name);
  }
});

test('no manifest names a registry, a machine or a mutable image', async (t) => {
  for (const name of manifests) {
    const { stdout } = await kubectl('kustomize', `k8s/${name}`);
    for (const document of parseAllDocuments(stdout)) {
      const text = document.toString();
      for (const [, image] of text.matchAll(/^\s+image: (\S+)$/gm)) t.regex(image as string, /^(kura|envoyproxy\/envoy):[\w.-]*\d[\w.-]*$/);
    }
  }
});
