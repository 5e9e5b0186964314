/** Pure: the kustomize component for several disks on each node, one shard for each disk. */
import { stringify } from 'yaml';

const maxDisks = 64;
const marker = '.kura-disk';

/** `disks` are the mount points on the nodes. Throws an Error for a disk that is no absolute path, or for a duplicate. */
export function disksComponent(disks: readonly string[]): string {
  const paths = disks.map(normalized);
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  if (twice !== undefined) throw new Error(`the disk ${twice} is listed twice; list each mount point once`);
  if (paths.length < 1 || paths.length > maxDisks) throw new Error(`${paths.length} disks are listed; it must be 1 to ${maxDisks}`);
  return comment(paths) + toYaml(componentOf(paths));
}

function normalized(path: string): string {
  if (!/^\/[\w./-]+$/.test(path) || path.split('/').includes('..'))
    throw new Error(`the disk "${path}" is no mount point; it must be an absolute path of letters, digits and ./-_`);
  return path.replace(/\/+/g, '/').replace(/\/$/, '');
}

function comment(paths: readonly string[]): string {
  return `# One Pod on each node with a shard for each disk: ${paths.join(', ')}. Written by \`npm run k8s:disks\`.
# List this component after hostpath. Prepare each disk once, after it is mounted:
#   install -d -o 65532 -g 65532 -m 700 DISK/kura && touch DISK/kura/${marker}
# A shard does not start on a directory without this file, so a disk that is not mounted never fills the root disk.
# The shards on the other disks serve meanwhile.
`;
}

function componentOf(paths: readonly string[]): object {
  const others = paths.map((_, number) => number).slice(1);
  const jsonPatch = (kind: string, operations: readonly object[]): object => ({
    target: { kind, name: 'kura-cache.*' },
    patch: toYaml(operations).trimEnd(),
  });
  const addPort = (rule: number, port: string): object => ({ op: 'add', path: `/spec/ingress/${rule}/ports/-`, value: { port } });
  return {
    apiVersion: 'kustomize.config.k8s.io/v1alpha1',
    kind: 'Component',
    patches: [
      jsonPatch('StatefulSet|DaemonSet', [
        // Fails unless hostpath is listed before.
        { op: 'test', path: '/kind', value: 'DaemonSet' },
        { op: 'remove', path: '/spec/template/spec/initContainers' },
      ]),
      { target: { kind: 'DaemonSet', name: 'kura-cache.*' }, patch: toYaml(daemonSet(paths)).trimEnd() },
      { patch: toYaml(service(others)).trimEnd() },
      jsonPatch('NetworkPolicy', [
        ...others.map((number) => addPort(0, `shard-${number}`)),
        ...others.map((number) => addPort(1, `metrics-${number}`)),
      ]),
    ].slice(0, others.length === 0 ? 2 : 4),
  };
}

function daemonSet(paths: readonly string[]): object {
  const health = { httpGet: { port: 'health' } };
  const env: Readonly<Record<string, string>> = {
    KURA_CACHE_NAME: '$(NODE_NAME)',
    KURA_CACHE_SHARDS: String(paths.length),
    KURA_CACHE_DIRECTORIES: paths.map((_, number) => `/data/${number}/kura`).join(','),
    KURA_CACHE_MARKER: marker,
  };
  const container = {
    name: 'cache',
    env: [
      // Before its use in KURA_CACHE_NAME.
      { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
      ...Object.entries(env).map(([name, value]) => ({ name, value })),
      ...['KURA_CACHE_DIRECTORY', 'KURA_CACHE_MAX_BYTES'].map((name) => ({ name, $patch: 'delete' })),
    ],
    ports: [
      ...paths.flatMap((_, number) => [
        { name: `shard-${number}`, containerPort: 7000 + number },
        { name: number === 0 ? 'metrics' : `metrics-${number}`, containerPort: 7100 + number },
      ]),
      { name: 'health', containerPort: 7099 },
    ],
    startupProbe: health,
    readinessProbe: health,
    livenessProbe: health,
    volumeMounts: [
      { mountPath: '/data', $patch: 'delete' },
      // A shard whose disk is mounted later finds it at its next start.
      ...paths.map((_, number) => ({ name: `disk-${number}`, mountPath: `/data/${number}`, mountPropagation: 'HostToContainer' })),
    ],
  };
  const volumes = [
    { name: 'data', $patch: 'delete' },
    ...paths.map((path, number) => ({ name: `disk-${number}`, hostPath: { path, type: 'Directory' } })),
  ];
  const metadata = { name: 'kura-cache' };
  return { apiVersion: 'apps/v1', kind: 'DaemonSet', metadata, spec: { template: { spec: { containers: [container], volumes } } } };
}

function service(others: readonly number[]): object {
  const ports = others.map((number) => ({
    name: `shard-${number}`,
    port: 7000 + number,
    targetPort: `shard-${number}`,
    appProtocol: 'http',
  }));
  return { apiVersion: 'v1', kind: 'Service', metadata: { name: 'kura-cache' }, spec: { ports } };
}

/** As in the manifests: no folded lines, no anchors. */
export function toYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
}
