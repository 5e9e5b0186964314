/** The Helm chart: it renders what kustomize builds, refuses bad values before anything is applied, and never touches the policy. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { parseAllDocuments, stringify } from 'yaml';
import { helmBinary } from '../../scripts/kubernetes-tools.ts';
import { type Plane, startPlane } from './plane/plane.ts';
import { createKubectl, type Kubectl } from './support/kubectl.ts';
import { componentNames, sorted, withNeeds, writeKustomization } from './support/kustomization.ts';

interface Manifest {
  readonly kind: string;
  readonly metadata: { name: string };
  readonly spec?: { replicas?: number };
}

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const test = anyTest as TestFn;
const namespace = 'ml-cache';
/** The values that choose a component. */
const valuesOf: Readonly<Record<string, object>> = {
  'authz-deployment': { components: { authzDeployment: true } },
  origin: { components: { origin: true } },
  console: { components: { console: true } },
  hostpath: { components: { hostpath: true } },
  disks: { disks: ['/mnt/nvme0', '/mnt/nvme1'] },
  'second-disk-size': { components: { secondDiskSize: true } },
  direct: { components: { direct: true } },
  tls: { components: { tls: true } },
  monitoring: { components: { monitoring: true } },
  'monitoring/plain': { components: { monitoringPlain: true } },
  tracing: { components: { tracing: true } },
  'kubernetes-1.33': { components: { kubernetes133: true } },
  ipv6: { components: { ipv6: true } },
  priority: { components: { priority: true } },
  'zone-per-deployment': { zones: ['zone-a', 'zone-b', 'zone-c'] },
};
const pairs = componentNames.flatMap((one, index) => componentNames.slice(index + 1).map((other) => [one, other]));
const combinations = [
  [],
  ...componentNames.map((name) => [name]),
  ...pairs,
  componentNames.filter((name) => name !== 'monitoring/plain'),
].filter((names) => !(names.includes('monitoring') && names.includes('monitoring/plain')));

let folder: string;
let chart: string;
let plane: Plane;
let kubectl: Kubectl;
let number = 0;

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-chart-'));
  await run(process.execPath, [path.join(root, 'scripts', 'pack-chart.ts'), folder], { env: { ...process.env, INIT_CWD: root } });
  chart = path.join(folder, 'kura');
  plane = await startPlane({ directory: path.join(folder, 'plane'), disableAdmission: 'DefaultStorageClass' });
  kubectl = createKubectl({ kubeconfig: plane.kubeconfig, cache: path.join(folder, 'kubectl') });
});
test.after.always(async () => {
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function helm(...args: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  const env = { ...process.env, HOME: folder, KUBECONFIG: plane.kubeconfig };
  return await run(helmBinary, args, { env, maxBuffer: 2 ** 26 }).then(
    ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ status: code, stdout, stderr }),
  );
}

/** By kind and name, in a form without the order of keys and of entries that have names, and without the hash of a ConfigMap. */
function comparable(text: string): Record<string, unknown> {
  const manifests = parseAllDocuments(text.replace(/\bkura-envoy-[a-z0-9]{10}\b/g, 'kura-envoy-hash'))
    .map((document) => document.toJS() as Manifest | null)
    .filter((manifest): manifest is Manifest => manifest !== null && manifest.kind !== 'Namespace');
  return Object.fromEntries(manifests.map((manifest) => [`${manifest.kind} ${manifest.metadata.name}`, sorted(manifest)]).sort());
}

/** The chart leaves the number of Envoys to the autoscaler. In a manifest, each `kubectl apply` would set it back. */
function withoutReplicas(manifests: Record<string, unknown>): Record<string, unknown> {
  for (const [name, manifest] of Object.entries(manifests))
    if (name.startsWith('Deployment kura-envoy')) delete (manifest as Manifest).spec?.replicas;
  return manifests;
}

/** The objects that differ, each with its first different line. */
function differences(found: Record<string, unknown>, wanted: Record<string, unknown>): string[] {
  return [...new Set([...Object.keys(found), ...Object.keys(wanted)])].flatMap((name) => {
    const [lines, wantedLines] = [stringify(found[name] ?? null).split('\n'), stringify(wanted[name] ?? null).split('\n')];
    const at = wantedLines.findIndex((line, index) => line !== lines[index]);
    return at === -1 && lines.length === wantedLines.length ? [] : [`${name}: "${lines.at(at)}" instead of "${wantedLines.at(at)}"`];
  });
}

async function built(components: readonly string[]): Promise<Record<string, unknown>> {
  const at = await writeKustomization(path.join(folder, `k${number++}`), { components, namespace });
  return withoutReplicas(comparable(await kubectl.ok('kustomize', at)));
}

async function rendered(...values: readonly string[]): Promise<Record<string, unknown>> {
  const { status, stdout, stderr } = await helm(
    'template',
    'kura',
    chart,
    '--namespace',
    namespace,
    ...values.flatMap((file) => ['--values', file]),
  );
  if (status !== 0) throw new Error(stderr);
  return comparable(stdout);
}

test.serial('the chart renders what kustomize builds, for every component and every pair', async (t) => {
  t.timeout(600_000);
  const left = [...combinations];
  const worker = async (): Promise<void> => {
    for (let chosen = left.pop(); chosen !== undefined; chosen = left.pop()) {
      const names = withNeeds(chosen);
      const merged = { components: {} };
      for (const name of names) {
        const { components, ...rest } = valuesOf[name] as { components?: object };
        Object.assign(merged, rest);
        Object.assign(merged.components, components);
      }
      const file = path.join(folder, `values${number++}.yaml`);
      await writeFile(file, stringify(merged));
      t.deepEqual(differences(await rendered(file), await built(names)), [], names.join(' + '));
    }
  };
  await Promise.all([worker(), worker()]);
});

test.serial('each example renders what the overlay of its name builds', async (t) => {
  const overlays = await readdir(path.join(root, 'k8s', 'overlays'));
  t.deepEqual((await readdir(path.join(chart, 'examples'))).sort(), overlays.map((name) => `${name}.yaml`).sort());
  for (const name of overlays) {
    const at = await writeKustomization(path.join(folder, `k${number++}`), { resource: `overlays/${name}`, namespace });
    const wanted = comparable(await kubectl.ok('kustomize', at));
    const found = await rendered(path.join(chart, 'examples', `${name}.yaml`));
    // The trial has a fixed number of Envoys, and no autoscaler.
    t.deepEqual(differences(found, name === 'trial' ? wanted : withoutReplicas(wanted)), [], name);
  }
});

test.serial('helm lint accepts the chart, and each value has a description', async (t) => {
  const { status, stdout } = await helm('lint', '--strict', chart);
  t.is(status, 0, stdout);
});

test.serial('a bad value is refused before anything is applied, with its name', async (t) => {
  const refused = async (...args: readonly string[]): Promise<string> => {
    const { status, stderr } = await helm('template', 'kura', chart, '--set', ...args);
    t.not(status, 0, args.join(' '));
    return stderr;
  };
  t.regex(await refused('cache.repicas=2'), /repicas/);
  t.regex(await refused('disks={/mnt/a,/mnt/a}', '--set', 'components.hostpath=true'), /\/disks.*equal/);
  t.regex(await refused('disks={/mnt/a}'), /disks needs components\.hostpath: true/);
  t.regex(await refused('components.monitoring=true,components.monitoringPlain=true'), /not both/);
  t.regex(await refused('image.digest=latest'), /digest/);
});

test.serial('helm installs on the real API server, names a missing Secret, and never touches the policy', async (t) => {
  t.timeout(180_000);
  await kubectl.ok('create', 'namespace', namespace);
  const install = ['upgrade', '--install', 'kura', chart, '--namespace', namespace];
  const without = await helm(...install);
  t.regex(without.stderr, /Secret kura-credential does not exist in namespace ml-cache/);
  await kubectl.ok(
    '-n',
    namespace,
    'create',
    'secret',
    'generic',
    'kura-credential',
    '--from-literal=keys=0123456789abcdef0123456789abcdef',
  );
  const policy = 'policy: edited by hand';
  await kubectl.ok('-n', namespace, 'create', 'configmap', 'kura-policy', `--from-literal=policy.yaml=${policy}`);
  const installed = await helm(...install);
  t.is(installed.status, 0, installed.stderr);
  t.regex(installed.stdout, /curl -H "Authorization: Bearer .*http:\/\/kura\.ml-cache\/objects\//);
  t.is((await helm(...install, '--set', 'cache.replicas=5')).status, 0);
  const found = await kubectl.json<{ data: Record<string, string> }>('-n', namespace, 'get', 'configmap', 'kura-policy');
  t.is(found.data['policy.yaml'], policy);
  const shards = await kubectl.json<{ spec: { replicas: number } }>('-n', namespace, 'get', 'statefulset', 'kura-cache');
  t.is(shards.spec.replicas, 5);
  t.is((await helm('uninstall', 'kura', '--namespace', namespace)).status, 0);
  await kubectl.ok('-n', namespace, 'get', 'configmap', 'kura-policy');
});
