/** The components of k8s: every pair can be had together, in another namespace too, and the API server takes each result without a warning. */
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { V1Container, V1PodSpec } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { parseAllDocuments, stringify } from 'yaml';
import { type Plane, startPlane } from './plane/plane.ts';
import { createKubectl, type Kubectl } from './support/kubectl.ts';
import { componentNames, sorted, withNeeds, writeKustomization } from './support/kustomization.ts';

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  spec?: { template?: { spec: V1PodSpec } };
  [field: string]: unknown;
}

const root = path.resolve(import.meta.dirname, '..', '..');
const namespace = 'ml-cache';
const test = anyTest as TestFn;
const pairs = componentNames.flatMap((one, index) => componentNames.slice(index + 1).map((other) => [one, other]));
const exclusive = (names: readonly string[]): boolean => names.includes('monitoring') && names.includes('monitoring/plain');
const combinations = [
  [],
  ...componentNames.map((name) => [name]),
  ...pairs,
  componentNames.filter((name) => name !== 'monitoring/plain'),
  ['authz-deployment', 'origin', 'tls', 'ipv6'],
  ['hostpath', 'disks', 'second-disk-size', 'direct', 'monitoring', 'priority'],
  ['origin', 'hostpath', 'disks', 'second-disk-size', 'zone-per-deployment'],
  ['tls', 'monitoring', 'kubernetes-1.33', 'zone-per-deployment'],
].filter((names) => !exclusive(names));
/** In the wrong order these fail, because a patch would miss its object. */
const mustBeFirst = new Map([
  ['disks', ['hostpath']],
  ['second-disk-size', ['hostpath']],
  ['ipv6', ['authz-deployment', 'origin', 'console']],
  ['priority', ['authz-deployment', 'origin', 'console']],
  ['tracing', ['authz-deployment']],
]);
/** Those of the Prometheus operator, without their schemas. */
const operatorKinds = { podmonitors: 'PodMonitor', prometheusrules: 'PrometheusRule' };
const built = new Map<string, Manifest[]>();
let folder: string;
let plane: Plane;
let kubectl: Kubectl;
let number = 0;

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-components-'));
  plane = await startPlane({ directory: path.join(folder, 'plane'), disableAdmission: 'DefaultStorageClass' });
  kubectl = createKubectl({ kubeconfig: plane.kubeconfig, cache: path.join(folder, 'kubectl') });
  await kubectl.ok('create', 'namespace', namespace);
  for (const [plural, kind] of Object.entries(operatorKinds)) await defineKind(plural, kind);
});
test.after.always(async () => {
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function defineKind(plural: string, kind: string): Promise<void> {
  const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
  const group = 'monitoring.coreos.com';
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: { group, scope: 'Namespaced', names: { plural, kind }, versions: [{ name: 'v1', served: true, storage: true, schema }] },
  };
  const file = path.join(folder, `${plural}.yaml`);
  await writeFile(file, stringify(definition));
  await kubectl.ok('apply', '-f', file);
  await kubectl.ok('wait', '--for=condition=Established', `crd/${plural}.${group}`, '--timeout=60s');
}

async function build(components: readonly string[]): Promise<{ status: number; stderr: string; manifests: Manifest[] }> {
  const at = await writeKustomization(path.join(folder, `k${number++}`), { components, namespace });
  const { status, stdout, stderr } = await kubectl.run('kustomize', at);
  const manifests = status === 0 ? parseAllDocuments(stdout).map((document) => document.toJS() as Manifest) : [];
  return { status, stderr, manifests };
}

/** Two builds at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  const worker = async (): Promise<void> => {
    for (let item = left.pop(); item !== undefined; item = left.pop()) await work(item);
  };
  await Promise.all([worker(), worker()]);
}

test.serial('every folder of k8s/components is in the list of this test', async (t) => {
  const folders = await readdir(path.join(root, 'k8s', 'components'));
  t.deepEqual(folders.sort(), componentNames.filter((name) => !name.includes('/')).sort());
});

test.serial('every combination builds without a warning', async (t) => {
  t.timeout(180_000);
  await each(combinations, async (names) => {
    const { status, stderr, manifests } = await build(withNeeds(names));
    t.deepEqual([status, stderr], [0, ''], names.join(' + '));
    built.set(names.join(' + '), manifests);
  });
});

test.serial('the other order of a pair gives the same, or fails with a message', async (t) => {
  t.timeout(180_000);
  const both = pairs.filter((names) => !exclusive(names));
  await each(both, async (pair) => {
    const names = withNeeds(pair).reverse();
    const { status, stderr, manifests } = await build(names);
    const isWrong = names.some((name) => mustBeFirst.get(name)?.some((first) => names.includes(first)));
    if (isWrong) return void t.regex(stderr, /test failed|nothing selected by DaemonSet/, names.join(' + '));
    t.deepEqual([status, sorted(manifests)], [0, sorted(built.get(pair.join(' + ')))], names.join(' + '));
    built.set(names.join(' + '), manifests);
  });
});

test.serial('a component that needs another one fails without it', async (t) => {
  const { status, stderr } = await build(['disks']);
  t.is(status, 1);
  t.regex(stderr, /components\/disks.*testing value \/kind failed/);
  t.regex((await build(['second-disk-size'])).stderr, /second-disk-size.*nothing selected by DaemonSet/);
});

test.serial('the namespace of the overlay is the only one', (t) => {
  for (const [name, manifests] of built) {
    for (const { kind, metadata, data, ...rest } of manifests) {
      t.notRegex(JSON.stringify(rest), /kura-system/, `${name}: ${kind} ${metadata.name}`);
      t.true([undefined, namespace].includes(metadata.namespace), `${name}: ${kind} ${metadata.name}`);
    }
    const subjects = manifests.flatMap(
      (manifest) => JSON.stringify(manifest).match(/"kind":"ServiceAccount","(name|serviceAccount)".*?\}/g) ?? [],
    );
    t.true(subjects.length >= 5, name);
    for (const subject of subjects) t.true(subject.includes(`"namespace":"${namespace}"`), `${name}: ${subject}`);
  }
});

test.serial('the containers of every combination have an image, their volumes, the ports of their probes and their variables', (t) => {
  for (const [name, manifests] of built) {
    for (const { kind, metadata, spec } of manifests) {
      const pod = spec?.template?.spec;
      if (pod === undefined) continue;
      const volumes = [...(pod.volumes ?? []), ...claimsOf(spec)].map((volume) => volume.name);
      for (const container of [...(pod.initContainers ?? []), ...pod.containers]) {
        t.deepEqual(faultsOf(container, volumes), [], `${name}: ${kind} ${metadata.name}, ${container.name}`);
      }
    }
  }
});

function claimsOf(spec: object | undefined): { name: string }[] {
  const { volumeClaimTemplates = [] } = (spec ?? {}) as { volumeClaimTemplates?: { metadata: { name: string } }[] };
  return volumeClaimTemplates.map(({ metadata }) => metadata);
}

function faultsOf({ image, volumeMounts = [], ports = [], env = [], ...rest }: V1Container, volumes: readonly string[]): string[] {
  const named = new Set(ports.map((port) => port.name));
  const mounts = volumeMounts.filter((mount) => !volumes.includes(mount.name)).map((mount) => `no volume ${mount.name}`);
  const probes = [rest.startupProbe, rest.readinessProbe, rest.livenessProbe].flatMap((probe) => probe?.httpGet?.port ?? []);
  const known = new Set<string>();
  const variables = env.flatMap((variable) => {
    const unknown = [...(variable.value ?? '').matchAll(/\$\((\w+)\)/g)].filter(([, name = '']) => !known.has(name));
    known.add(variable.name);
    return unknown.map(([text]) => `${variable.name} uses ${text} before its definition`);
  });
  return [
    ...(image === undefined ? ['no image'] : []),
    ...mounts,
    ...probes.filter((port) => !named.has(String(port))).map((port) => `no port ${port}`),
    ...variables,
  ];
}

test.serial('the API server takes every object of every combination without a word of warning', async (t) => {
  t.timeout(180_000);
  const distinct = new Set([...built.values()].flat().map((manifest) => JSON.stringify(manifest)));
  const file = path.join(folder, 'all.yaml');
  // A namespace that exists already warns of a missing annotation, which kubectl itself writes.
  const objects = [...distinct].filter((text) => !text.includes('"kind":"Namespace"'));
  await writeFile(file, objects.join('\n---\n'));
  const { status, stdout, stderr } = await kubectl.run('apply', '--dry-run=server', '--validate=strict', '-f', file);
  const isExpected = (line: string): boolean => line === '' || line.includes('"PreferClose" is deprecated; use "PreferSameZone"');
  t.deepEqual(
    stderr.split('\n').filter((line) => !isExpected(line)),
    [],
  );
  t.is(status, 0, stdout);
  t.log(`${built.size} combinations, ${objects.length} different objects`);
});

test.serial('in another namespace the services have their rights', async (t) => {
  const at = await writeKustomization(path.join(folder, 'real'), { namespace });
  await kubectl.ok('apply', '--validate=strict', '-k', at);
  const can = async (account: string, ...what: readonly string[]): Promise<string> => {
    const as = `--as=system:serviceaccount:${namespace}:${account}`;
    return (await kubectl.run('auth', 'can-i', as, ...what)).stdout.trim();
  };
  t.is(await can('kura-eds', 'watch', 'endpointslices.discovery.k8s.io', '-n', namespace), 'yes');
  t.is(await can('kura-envoy', 'create', 'tokenreviews.authentication.k8s.io'), 'yes');
  t.is(await can('kura-envoy', 'watch', 'configmaps/kura-policy', '-n', namespace), 'yes');
});
