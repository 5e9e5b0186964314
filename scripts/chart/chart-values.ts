/**
 * Pure: where the manifests take a value of the chart. The defaults in k8s/chart/values.yaml are what kustomize has there, and a test
 * compares both.
 */
import { Template, type Value } from './conditional-yaml.ts';

type Fields = Readonly<Record<string, Value>>;

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly [field: string]: Value;
}

/** The zone of the copies that represents all zones, and the disks that represent any number. */
export const firstZone = 'zone-a';
export const builtDisks = ['/mnt/nvme0', '/mnt/nvme1', '/mnt/nvme2'];

/** Of the component hostpath. */
const hostPath = '/var/lib/kura';
/** Fields with a value of one component only. */
const fields = new Map([
  ['kura/weight 2', new Template('inline', '{{ $.Values.cache.largeWeight | quote }}')],
  ['externalName otel-collector.observability.svc.cluster.local', new Template('inline', '{{ $.Values.tracing.collector }}')],
]);
const origins = new Template('literal', '{{- include "kura.origins" $ | nindent 0 }}');
const workloads = ['StatefulSet', 'DaemonSet', 'Deployment'];

export function withValues(manifest: Manifest, namespace: string): Manifest {
  const replaced = replaceText(manifest, namespace) as unknown as Manifest;
  const { kind, metadata } = manifest;
  if (kind === 'ConfigMap' && metadata.name.startsWith('kura-envoy-')) return bootstrapOf(replaced);
  if (kind === 'ConfigMap' && metadata.name === 'kura-origins') return { ...replaced, data: { 'origins.yaml': origins } };
  if (kind === 'ConfigMap') return { ...replaced, data: filesOf(replaced.data as Fields) };
  if (kind === 'HorizontalPodAutoscaler') {
    const perZone = metadata.name.endsWith(firstZone) ? 'PerZone' : '';
    const limits = { minReplicas: value(`envoy.minReplicas${perZone}`), maxReplicas: value(`envoy.maxReplicas${perZone}`) };
    return { ...replaced, spec: { ...(replaced.spec as Fields), ...limits } };
  }
  if (kind === 'PodDisruptionBudget' && metadata.name === 'kura-cache')
    return { ...replaced, spec: { ...(replaced.spec as Fields), maxUnavailable: value('cache.maxUnavailable') } };
  return workloads.includes(kind) ? workload(replaced) : replaced;
}

/** The data of a ConfigMap is in files of the chart, because Lua, alerts and dashboards contain the marks of templates. */
function filesOf(data: Fields): Fields {
  return Object.fromEntries(Object.keys(data).map((name) => [name, fileText(name)]));
}

export function fileText(name: string): Template {
  return new Template('literal', `{{- $.Files.Get "files/${name}" | trimSuffix "\\n" | nindent 0 }}`);
}

function bootstrapOf(manifest: Manifest): Manifest {
  return {
    ...manifest,
    metadata: { ...manifest.metadata, name: new Template('inline', '{{ include "kura.bootstrapName" $ }}') as unknown as string },
    data: block('{{- include "kura.bootstrap" $ | nindent 0 }}'),
  };
}

function workload({ spec, ...manifest }: Manifest): Manifest {
  const { replicas, template, volumeClaimTemplates, updateStrategy, ...rest } = spec as Fields;
  const part = partOf(manifest.metadata.name);
  const pod = (template as { readonly spec: Fields }).spec;
  return {
    ...manifest,
    spec: {
      ...replicasOf(replicas, part),
      ...rest,
      ...(updateStrategy === undefined ? {} : { updateStrategy: withMaxUnavailable(updateStrategy as Fields) }),
      template: { ...(template as Fields), spec: podOf(pod, part) },
      ...(volumeClaimTemplates === undefined ? {} : { volumeClaimTemplates: claimsOf(volumeClaimTemplates as readonly Fields[]) }),
    },
  } as Manifest;
}

/** The autoscaler sets those of Envoy, unless a number is given. */
function replicasOf(replicas: Value | undefined, part: string): Fields {
  if (part === 'envoy') return { replicas: optional('envoy.replicas') };
  return replicas === undefined ? {} : { replicas: value(`${part}.replicas`) };
}

function withMaxUnavailable(strategy: Fields): Fields {
  return { ...strategy, rollingUpdate: { ...(strategy.rollingUpdate as Fields), maxUnavailable: value('cache.maxUnavailable') } };
}

function claimsOf(claims: readonly Fields[]): readonly Value[] {
  const resources = { requests: { storage: value('cache.storage') } };
  return claims.map((claim) => ({
    ...claim,
    spec: { ...(claim.spec as Fields), storageClassName: optional('cache.storageClass'), resources },
  }));
}

function podOf({ initContainers, containers, ...pod }: Fields, part: string): Fields {
  const all = (list: Value | undefined) => (list as readonly Fields[] | undefined)?.map((container) => containerOf(container, part));
  const init = all(initContainers);
  return {
    ...pod,
    ...(part === 'origin' ? { volumes: originVolumes(pod.volumes as readonly Fields[]) } : {}),
    imagePullSecrets: optional('imagePullSecrets'),
    tolerations: optional(`${part}.tolerations`),
    ...(init === undefined ? {} : { initContainers: init }),
    containers: all(containers) as readonly Value[],
  };
}

/** With the Secrets of the origins, and the volumes of those of kind file. */
function originVolumes(volumes: readonly Fields[]): readonly Value[] {
  const sources = block('{{- include "kura.originSecrets" $ | nindent 0 }}');
  const own = volumes.map((volume) => (volume.projected === undefined ? volume : { ...volume, projected: { sources } }));
  return [...own, furtherEntries('origin.volumes')];
}

/** The section of values.yaml. */
function partOf(name: string): string {
  const part = name
    .replace(/^kura-/, '')
    .replace(`-${firstZone}`, '')
    .replace(/-large$/, '');
  return part === 'authz' ? 'authzDeployment' : part;
}

function containerOf(container: Fields, workloadPart: string): Fields {
  const image = String(container.image).startsWith('kura:') ? 'kura.image' : 'kura.envoyImage';
  const isBeside = container.name === 'authz' && workloadPart === 'envoy';
  const isMain = workloadPart === container.name || workloadPart === `${String(container.name)}Deployment`;
  const part = isBeside ? 'authz' : isMain ? workloadPart : undefined;
  return {
    ...container,
    ...(container.env === undefined ? {} : { env: envOf(container.env as readonly Fields[]) }),
    image: new Template('inline', `{{ include "${image}" $ }}`),
    ...(part === 'origin'
      ? { volumeMounts: [...(container.volumeMounts as readonly Fields[]), furtherEntries('origin.volumeMounts')] }
      : {}),
    ...(part === undefined ? {} : { resources: block(`{{- toYaml $.Values.${part}.resources | nindent 0 }}`) }),
  };
}

/** On a folder of a node, nothing else bounds a shard. */
function envOf(env: readonly Fields[]): readonly Value[] {
  return env.map((variable) => (variable.name === 'KURA_CACHE_MAX_BYTES' ? { ...variable, value: value('cache.maxBytes') } : variable));
}

/** Texts that occur in many places. */
function replaceText(input: Value, namespace: string): Value {
  if (typeof input === 'string') {
    if (input === namespace) return new Template('inline', '{{ $.Release.Namespace }}');
    if (input === hostPath) return value('cache.hostPath');
    if (input === 'kura-credential') return value('credentialSecret');
    if (input === String(builtDisks.length)) return new Template('inline', '{{ len $.Values.disks | quote }}');
    if (input === builtDisks.map((_, at) => `/data/${at}/kura`).join(','))
      return new Template('inline', '{{ include "kura.directories" $ }}');
    if (input === builtDisks[0]) return new Template('inline', '{{ index $.Values.disks 0 }}');
    return input.startsWith('kura-envoy-') && /^kura-envoy-[a-z0-9]{10}$/.test(input)
      ? new Template('inline', '{{ include "kura.bootstrapName" $ }}')
      : input;
  }
  if (Array.isArray(input)) return input.map((item: Value) => replaceText(item, namespace));
  if (typeof input !== 'object' || input === null || input instanceof Template) return input;
  return Object.fromEntries(
    Object.entries(input).map(([key, entry]) => [key, fields.get(`${key} ${String(entry)}`) ?? replaceText(entry as Value, namespace)]),
  );
}

function value(path: string): Template {
  return new Template('inline', `{{ $.Values.${path} }}`);
}

/** The field is absent while the value is empty. */
function optional(path: string): Template {
  return new Template('optional', path);
}

/** Entries of a list that the user of the chart adds. */
function furtherEntries(path: string): Template {
  return block(`{{- with $.Values.${path} }}\n{{- toYaml . | nindent 0 }}\n{{- end }}`);
}

function block(text: string): Template {
  return new Template('block', text);
}
