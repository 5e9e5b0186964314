/** The manifests as the real API server takes them: validated strictly, admitted without a warning, and selecting what they mean. */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type {
  V1Deployment,
  V1LabelSelector,
  V1NetworkPolicy,
  V1Pod,
  V1PodDisruptionBudget,
  V1Service,
  V2HorizontalPodAutoscaler,
} from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { parseAllDocuments } from 'yaml';
import { waitFor } from '../support/wait.ts';
import { type Plane, startPlane } from './plane/plane.ts';
import { createKubectl, type Kubectl } from './support/kubectl.ts';
import { componentNames, withNeeds, writeKustomization } from './support/kustomization.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const system = 'kura-system';
const overlays = ['base', ...(await readdir(path.join(root, 'k8s', 'overlays'))).map((overlay) => `overlays/${overlay}`)];
/** The base with one component each. components.plane.ts has their combinations. */
const withComponent = componentNames.map((name) => `components/${name}`);
const manifests = [...overlays, ...withComponent];
/** The test makes the namespace without kubectl's own note of what it applied; and the API server here is newer than those that know nothing else. */
const expectedWarnings = [
  'Warning: resource namespaces/kura-system is missing the kubectl.kubernetes.io/last-applied-configuration annotation',
  'Warning: spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"',
];
const parts = { 'kura-cache': 4, 'kura-envoy': 6, 'kura-eds': 2 };
const test = anyTest as TestFn;
let folder: string;
let plane: Plane;
let kubectl: Kubectl;
/** The folder of each of `manifests`, for `kubectl … -k`. */
const folders = new Map(overlays.map((name) => [name, path.join(root, 'k8s', name)]));
/** Those that the controllers have made of k8s/base. */
let pods: V1Pod[];

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-plane-'));
  plane = await startPlane({ directory: path.join(folder, 'plane'), disableAdmission: 'DefaultStorageClass' });
  kubectl = createKubectl({ kubeconfig: plane.kubeconfig, cache: path.join(folder, 'kubectl') });
  await kubectl.ok('create', 'namespace', system);
  for (const name of withComponent) {
    const components = withNeeds([name.slice('components/'.length)]);
    folders.set(name, await writeKustomization(path.join(folder, name.replaceAll('/', '-')), { components, namespace: system }));
  }
});
test.after.always(async () => {
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

const folderOf = (name: string): string => folders.get(name) as string;

const list = async <T>(...kind: readonly string[]): Promise<T[]> =>
  (await kubectl.json<{ items: T[] }>('-n', system, 'get', ...kind)).items;

const warningsIn = (stderr: string): string[] =>
  stderr.split('\n').filter((line) => line !== '' && !expectedWarnings.some((warning) => line.startsWith(warning)));

function select(labels: Readonly<Record<string, string>> | undefined): V1Pod[] {
  return pods.filter(({ metadata }) => Object.entries(labels ?? {}).every(([key, value]) => metadata?.labels?.[key] === value));
}

/** How many Pods of each part a selector finds; every part is its own label. */
function countOf(selector: V1LabelSelector | undefined): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { metadata } of select(selector?.matchLabels)) {
    const name = metadata?.labels?.['app.kubernetes.io/name'] ?? '';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

function portsOf({ spec }: V1Pod): (string | undefined)[] {
  return [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].flatMap(({ ports }) => ports ?? []).map(({ name }) => name);
}

for (const name of overlays) {
  test.serial(`k8s/${name} is taken by the API server without a word of warning`, async (t) => {
    const { status, stdout, stderr } = await kubectl.run('apply', '--dry-run=server', '--validate=strict', '-k', folderOf(name));
    t.deepEqual(warningsIn(stderr), []);
    t.is(status, 0, stdout);
  });
}

test.serial('the examples of workloads are taken in their own namespace', async (t) => {
  await kubectl.ok('create', 'namespace', 'vision');
  await kubectl.ok('label', 'namespace', 'vision', 'pod-security.kubernetes.io/warn=restricted');
  for (const file of (await readdir(path.join(root, 'k8s', 'examples'))).filter((each) => each.endsWith('.yaml'))) {
    const { status, stdout, stderr } = await kubectl.run('apply', '--validate=strict', '-f', `k8s/examples/${file}`);
    t.deepEqual([stderr, status], ['', 0], `${file}: ${stdout}`);
  }
});

test.serial('the examples of storage classes are taken', async (t) => {
  for (const file of await readdir(path.join(root, 'k8s', 'examples', 'storage'))) {
    const { status, stderr } = await kubectl.run('apply', '--dry-run=server', '--validate=strict', '-f', `k8s/examples/storage/${file}`);
    t.deepEqual([stderr, status], ['', 0], file);
  }
});

test.serial('a field that the API does not know fails', async (t) => {
  const file = path.join(folder, 'unknown');
  await mkdir(file);
  await writeFile(
    path.join(file, 'kustomization.yaml'),
    `resources: [${path.relative(file, path.join(root, 'k8s', 'base'))}]\npatches:\n  - target: { kind: StatefulSet }\n    patch: '[{"op": "add", "path": "/spec/replica", "value": 3}]'\n`,
  );
  const { status, stderr } = await kubectl.run('apply', '--dry-run=server', '--validate=strict', '-k', file);
  t.is(status, 1);
  t.regex(stderr, /unknown field "spec\.replica"/);
});

test.serial('applied for real, the controllers make the Pods of every part', async (t) => {
  const { status, stdout, stderr } = await kubectl.run('apply', '--validate=strict', '-k', 'k8s/base');
  t.is(status, 0, stderr);
  t.regex(stdout, /statefulset\.apps\/kura-cache created/);
  pods = await waitFor('all Pods are there', async () => {
    const all = await list<V1Pod>('pods');
    return all.length === 12 && all;
  });
  t.deepEqual(countOf({}), parts);
});

/** Of our own parts. Envoy is for every workload. */
const callersOf: Record<keyof typeof parts, readonly (keyof typeof parts)[]> = {
  'kura-envoy': [],
  'kura-eds': ['kura-envoy'],
  'kura-cache': ['kura-envoy'],
};

test.serial('a NetworkPolicy selects one part whole, lets in whom it means and names ports that its Pods have', async (t) => {
  const policies = await list<V1NetworkPolicy>('networkpolicies');
  t.deepEqual(policies.map(({ metadata }) => metadata?.name).sort(), Object.keys(parts).sort());
  for (const { metadata, spec } of policies) {
    const name = metadata?.name as keyof typeof parts;
    t.deepEqual(countOf(spec?.podSelector), { [name]: parts[name] });
    // client-node's own type calls the field `_from`.
    const rules = (spec?.ingress ?? []) as { from?: { podSelector?: V1LabelSelector }[]; ports?: { port: string }[] }[];
    const callers = rules.flatMap(({ from = [] }) =>
      from.flatMap(({ podSelector }) => (podSelector === undefined ? [] : [countOf(podSelector)])),
    );
    t.deepEqual(
      callers,
      callersOf[name].map((caller) => ({ [caller]: parts[caller] })),
      name,
    );
    const named = portsOf(select(spec?.podSelector?.matchLabels)[0] as V1Pod);
    for (const { port } of rules.flatMap(({ ports = [] }) => ports)) t.true(named.includes(port), `${name}: ${port}`);
  }
});

test.serial('a disruption budget counts one part whole, by the disruption controller’s own word', async (t) => {
  const budgets = await waitFor('every budget has been counted', async () => {
    const all = await list<V1PodDisruptionBudget>('poddisruptionbudgets');
    return all.every(({ status }) => (status?.expectedPods ?? 0) > 0) && all;
  });
  t.deepEqual(Object.fromEntries(budgets.map(({ metadata, status }) => [metadata?.name, status?.expectedPods])), parts);
});

test.serial('a Service selects one part whole and names a port that its Pods have; eds finds the shards’ port', async (t) => {
  const services = await list<V1Service>('services');
  t.is(services.length, 3);
  for (const { metadata, spec } of services) {
    const name = (metadata?.name === 'kura' ? 'kura-envoy' : metadata?.name) as keyof typeof parts;
    t.deepEqual(countOf({ matchLabels: spec?.selector ?? {} }), { [name]: parts[name] });
    const named = portsOf(select(spec?.selector)[0] as V1Pod);
    for (const { targetPort } of spec?.ports ?? []) t.true(named.includes(String(targetPort)), `${name}: ${targetPort}`);
  }
  const slices = await waitFor('an EndpointSlice', async () => {
    const found = await list<{ ports: { name: string }[] }>('endpointslices', '-l', 'kubernetes.io/service-name=kura-cache');
    return found.length > 0 && found;
  });
  t.truthy(slices);
});

test.serial('the autoscaler scales Envoy alone, by the share of its worker threads that are busy', async (t) => {
  const scalers = await list<V2HorizontalPodAutoscaler>('horizontalpodautoscalers');
  t.is(scalers.length, 1);
  const spec = scalers[0]?.spec;
  t.like(spec?.scaleTargetRef, { kind: 'Deployment', name: 'kura-envoy' });
  const target = await kubectl.json<V1Deployment>('-n', system, 'get', 'deployment', 'kura-envoy');
  // A second `kubectl apply` goes back to the Deployment's number until the autoscaler looks again.
  t.is(spec?.minReplicas, target.spec?.replicas);
  const measured = spec?.metrics?.[0]?.containerResource;
  const container = target.spec?.template.spec?.containers.find(({ name }) => name === measured?.container);
  // 60 % of the worker threads: Envoy cannot use more CPUs than it has threads, whatever it requests.
  const threads = Number(container?.args?.[container.args.indexOf('--concurrency') + 1]);
  t.deepEqual(measured?.target, { type: 'AverageValue', averageValue: `${threads * 600}m` });
});

test.serial('what authz and eds ask of the API goes by our FlowSchema, what others ask does not', async (t) => {
  const { metadata } = await kubectl.json<{ metadata: { uid: string } }>('get', 'flowschema', 'kura');
  const flowOf = async (account: string): Promise<string | undefined> => {
    const token = (await kubectl.ok('-n', system, 'create', 'token', account)).trim();
    const { stderr } = await kubectl.run(`--token=${token}`, '-v=9', 'get', '--raw', `/api/v1/namespaces/${system}/pods`);
    return /Flowschema-Uid: (\S+)/i.exec(stderr)?.[1];
  };
  for (const account of new Set(pods.map(({ spec }) => spec?.serviceAccountName as string))) {
    const flow = await flowOf(account);
    t.truthy(flow);
    t.is(flow === metadata.uid, account !== 'kura-cache', account);
  }
});

// The API server here has no custom resources of the Prometheus operator.
for (const name of manifests.filter((each) => each !== 'base' && each !== 'components/monitoring')) {
  test.serial(`k8s/${name} is taken for real too`, async (t) => {
    await kubectl.run('-n', system, 'delete', 'statefulset,daemonset,deployment', '--all', '--cascade=background');
    const { status, stderr } = await kubectl.run('apply', '--validate=strict', '-k', folderOf(name));
    t.deepEqual(warningsIn(stderr), []);
    t.is(status, 0, stderr);
  });
}

test('workloads reach shards, and get their addresses, only with the component direct', async (t) => {
  interface Object {
    kind: string;
    metadata: { name: string };
    spec: {
      ingress: { from: object[]; ports: object[] }[];
      template: { spec: { containers: { env: { name: string; valueFrom?: object }[] }[] } };
    };
  }
  for (const name of manifests) {
    const objects = parseAllDocuments(await kubectl.ok('kustomize', folderOf(name))).map((document) => document.toJS() as Object);
    const find = (...kinds: string[]) => objects.find(({ kind, metadata }) => kinds.includes(kind) && metadata.name === 'kura-cache')?.spec;
    const others = find('NetworkPolicy')?.ingress.filter(
      ({ from, ports }) => !JSON.stringify(from).includes('kura-envoy') && !JSON.stringify(ports).includes('metrics'),
    );
    const told = find('StatefulSet', 'DaemonSet')?.template.spec.containers[0]?.env.filter(
      ({ name: each }) => each === 'KURA_CACHE_ADVERTISE',
    );
    const isOpen = name === 'components/direct';
    t.deepEqual(others, isOpen ? [{ from: [{ namespaceSelector: {} }], ports: [{ port: 7000, endPort: 7063 }] }] : [], name);
    const pod = { name: 'KURA_CACHE_ADVERTISE', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } };
    t.deepEqual(told, isOpen ? [pod] : [], name);
  }
});

test('with the component origin, the NetworkPolicies allow its arrows, and no other part reaches storage', async (t) => {
  interface Policy {
    kind: string;
    metadata: { name: string };
    spec: { policyTypes: string[]; ingress: Rule[]; egress?: Rule[] };
  }
  interface Rule {
    from?: Peer[];
    to?: Peer[];
    ports: { port: string | number }[];
  }
  type Peer = { podSelector?: V1LabelSelector; namespaceSelector?: V1LabelSelector; ipBlock?: { cidr: string } };
  const objects = parseAllDocuments(await kubectl.ok('kustomize', folderOf('components/origin'))).map((document) => document.toJS());
  const policies = (objects as Policy[]).filter(({ kind }) => kind === 'NetworkPolicy');
  const nameOf = ({ podSelector, namespaceSelector, ipBlock }: Peer): string =>
    podSelector?.matchLabels?.['app.kubernetes.io/name'] ?? (namespaceSelector === undefined ? String(ipBlock?.cidr) : 'monitoring');
  const arrows = (name: string, direction: 'ingress' | 'egress'): string[] =>
    (policies.find(({ metadata }) => metadata.name === name)?.spec[direction] ?? []).flatMap((rule) => {
      const peers = (rule.from ?? rule.to)?.map(nameOf) ?? ['*'];
      const ports = rule.ports?.map(({ port }) => port) ?? ['*'];
      return peers.flatMap((peer) => ports.map((port) => `${peer} ${port}`));
    });
  t.deepEqual(arrows('kura-origin', 'ingress'), ['kura-cache fetch', 'kura-envoy prefetch', 'monitoring metrics']);
  t.deepEqual(arrows('kura-origin', 'egress'), ['kura-envoy fill', '* 53', '* 53', '* 443', '* 6443', '0.0.0.0/0 *', '::/0 *']);
  t.deepEqual(arrows('kura-cache', 'egress'), ['kura-origin fetch', '* 53', '* 53']);
  t.deepEqual(arrows('kura-envoy', 'ingress'), ['* objects', 'monitoring metrics', 'monitoring authz-metrics', 'kura-origin fill']);
  for (const { metadata, spec } of policies)
    t.is(spec.policyTypes.includes('Egress'), ['kura-cache', 'kura-origin'].includes(metadata.name), metadata.name);
});

test('only authz, eds and the console have a token of the Kubernetes API', async (t) => {
  interface Object {
    kind: string;
    metadata: { name: string };
    automountServiceAccountToken?: boolean;
    spec?: { template?: { spec: NonNullable<V1Pod['spec']> } };
  }
  const zones = ['zone-a', 'zone-b', 'zone-c'];
  const holders = new Map([
    ['components/authz-deployment', ['kura-authz/authz', 'kura-eds/eds']],
    ['components/origin', ['kura-eds/eds', 'kura-envoy/authz', 'kura-origin/origin']],
    ['components/zone-per-deployment', ['kura-eds/eds', ...zones.map((zone) => `kura-envoy-${zone}/authz`)]],
  ]);
  for (const name of manifests) {
    const objects = parseAllDocuments(await kubectl.ok('kustomize', folderOf(name))).map((document) => document.toJS() as Object);
    const found = objects.flatMap(({ metadata, spec }) => {
      const pod = spec?.template?.spec;
      if (pod === undefined) return [];
      const account = objects.find((each) => each.kind === 'ServiceAccount' && each.metadata.name === pod.serviceAccountName);
      const isAutomatic = pod.automountServiceAccountToken ?? account?.automountServiceAccountToken ?? true;
      const tokens = (pod.volumes ?? []).filter(({ projected }) => projected?.sources?.some((source) => source.serviceAccountToken));
      const names = tokens.map((volume) => volume.name);
      return [...(pod.initContainers ?? []), ...pod.containers]
        .filter(({ volumeMounts = [] }) => isAutomatic || volumeMounts.some((mount) => names.includes(mount.name)))
        .map((container) => `${metadata.name}/${container.name}`);
    });
    const consoles = name.startsWith('overlays/') || name === 'components/console' ? ['kura-console/console'] : [];
    t.deepEqual(found.sort(), holders.get(name) ?? [...consoles, 'kura-eds/eds', 'kura-envoy/authz'], name);
  }
});

test('one shard, Envoy or node that stays broken blocks neither drains nor updates', async (t) => {
  interface Object {
    kind: string;
    metadata: { name: string };
    spec: { unhealthyPodEvictionPolicy?: string; maxUnavailable?: number | string; updateStrategy?: object };
  }
  for (const name of manifests) {
    const objects = parseAllDocuments(await kubectl.ok('kustomize', folderOf(name))).map((document) => document.toJS() as Object);
    const budgets = objects.filter(({ kind }) => kind === 'PodDisruptionBudget');
    for (const { metadata, spec } of budgets) t.is(spec.unhealthyPodEvictionPolicy, 'AlwaysAllow', `${name}: ${metadata.name}`);
    const shards = objects.find(({ kind, metadata }) => metadata.name === 'kura-cache' && /StatefulSet|DaemonSet/.test(kind));
    const isLarge = name === 'overlays/nvme';
    t.deepEqual(shards?.spec.updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: isLarge ? '5%' : 2 } }, name);
    // A DaemonSet has no scale subresource, so a budget would refuse every eviction.
    const budget = budgets.find(({ metadata }) => metadata.name === 'kura-cache');
    t.is(budget?.spec.maxUnavailable, shards?.kind === 'DaemonSet' ? undefined : 2, name);
  }
});

test('no manifest names a registry, a machine or a mutable image', async (t) => {
  for (const name of manifests) {
    for (const document of parseAllDocuments(await kubectl.ok('kustomize', folderOf(name)))) {
      const images = document.toString().matchAll(/^\s+image: (\S+)$/gm);
      for (const [, image] of images) t.regex(image as string, /^(kura|envoyproxy\/envoy):[\w.-]*\d[\w.-]*$/);
    }
  }
});
