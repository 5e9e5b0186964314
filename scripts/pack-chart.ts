/**
 * `npm run pack:chart [-- FOLDER]`: writes the Helm chart into FOLDER/kura (default: the current folder). Its templates are made from what
 * kustomize builds of k8s/base with each component, so the manifests have one source. Needs kubectl on the PATH or in .tools.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { builtDisks, fileText, firstZone, type Manifest, withValues } from './chart/chart-values.ts';
import { type Case, emitObject, type Repeat, type Value } from './chart/conditional-yaml.ts';
import { disksComponent } from './k8s-disks.ts';
import { zonesComponent } from './k8s-zones.ts';

interface Component {
  readonly name: string;
  /** The condition of the template. */
  readonly flag: string;
  readonly needs?: string;
}

const root = path.resolve(import.meta.dirname, '..');
const namespace = 'kura-of-the-release';
/** In the order in which an overlay lists them. */
const components: readonly Component[] = [
  { name: 'authz-deployment', flag: '$c.authzDeployment' },
  { name: 'origin', flag: '$c.origin' },
  { name: 'console', flag: '$c.console' },
  { name: 'hostpath', flag: '$c.hostpath' },
  { name: 'disks', flag: '$.Values.disks', needs: 'hostpath' },
  { name: 'second-disk-size', flag: '$c.secondDiskSize', needs: 'hostpath' },
  { name: 'direct', flag: '$c.direct' },
  { name: 'tls', flag: '$c.tls' },
  { name: 'monitoring', flag: '$c.monitoring' },
  { name: 'monitoring/plain', flag: '$c.monitoringPlain' },
  { name: 'tracing', flag: '$c.tracing' },
  { name: 'kubernetes-1.33', flag: '$c.kubernetes133' },
  { name: 'ipv6', flag: '$c.ipv6' },
  { name: 'priority', flag: '$c.priority' },
  { name: 'zone-per-deployment', flag: '$.Values.zones' },
];
/** They add objects that other components change. */
const addsChangedObjects: readonly string[] = ['authz-deployment', 'origin', 'console', 'second-disk-size', 'zone-per-deployment'];
const autoscaler = 'HorizontalPodAutoscaler';
/** Fragments of the bootstrap that the user of the chart gives. */
const extraFragments = `{{- range $name, $fragment := $.Values.envoy.fragments }}
fragment-{{ $name }}.yaml: |
{{- toYaml $fragment | nindent 2 }}
{{- end }}`;

const header = ['{{- /* Made from k8s/base and k8s/components by npm run pack:chart. */ -}}', '{{- $c := $.Values.components -}}'];

const target = path.resolve(process.env.INIT_CWD ?? process.cwd(), process.argv[2] ?? '.', 'kura');
const scratch = mkdtempSync(path.join(tmpdir(), 'kura-chart-'));
try {
  writeBuiltComponents();
  if (existsSync(target) && !existsSync(path.join(target, 'values.schema.json')))
    throw new Error(`${target} exists and is no chart: name another folder`);
  rmSync(target, { recursive: true, force: true });
  cpSync(path.join(root, 'k8s', 'chart'), target, { recursive: true });
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string };
  const chart = readFileSync(path.join(target, 'Chart.yaml'), 'utf8');
  writeFileSync(path.join(target, 'Chart.yaml'), `${chart}version: ${version}\nappVersion: ${version}\n`);
  const builds = buildAll();
  copyFiles(builds);
  writeTemplates(builds);
} finally {
  rmSync(scratch, { recursive: true });
}

/** Copies of the components with lists of values, for the values that chart-values.ts replaces. */
function writeBuiltComponents(): void {
  cpSync(path.join(root, 'k8s'), path.join(scratch, 'k8s'), { recursive: true });
  cpSync(path.join(root, 'envoy'), path.join(scratch, 'envoy'), { recursive: true });
  const at = (name: string): string => path.join(scratch, 'k8s', 'components', name);
  writeFileSync(path.join(at('disks'), 'kustomization.yaml'), disksComponent(builtDisks));
  for (const [name, text] of Object.entries(zonesComponent([firstZone]))) writeFileSync(path.join(at('zone-per-deployment'), name), text);
}

/** What the base and each component build alone, and with those components whose objects others change. */
function buildAll(): Map<string, Manifest[]> {
  const builds = new Map<string, Manifest[]>();
  for (const adding of ['', ...addsChangedObjects]) {
    const needed = components.find(({ name }) => name === adding)?.needs;
    for (const { name, needs } of [{ name: '', needs: undefined }, ...components]) {
      const chosen = components.filter((one) => [adding, needed, name, needs].includes(one.name));
      if (!builds.has(keyOf(chosen))) builds.set(keyOf(chosen), build(chosen));
    }
  }
  return builds;
}

function keyOf(chosen: readonly Component[]): string {
  return chosen.map(({ name }) => name).join('+');
}

function build(chosen: readonly Component[]): Manifest[] {
  const folder = mkdtempSync(path.join(scratch, 'k8s', 'build-'));
  const content = { resources: ['../base'], components: chosen.map(({ name }) => `../components/${name}`), namespace };
  writeFileSync(path.join(folder, 'kustomization.yaml'), stringify(content));
  const own = globSync('.tools/kubernetes-*/kubectl', { cwd: root })[0];
  const kubectl = own === undefined ? 'kubectl' : path.join(root, own);
  const text = execFileSync(kubectl, ['kustomize', folder], { encoding: 'utf8', maxBuffer: 64 * 2 ** 20 });
  const manifests = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
  // Helm creates the namespace, and a chart that held it would remove it.
  return manifests.filter(({ kind }) => kind !== 'Namespace');
}

/** The files that ConfigMaps hold. */
function copyFiles(builds: ReadonlyMap<string, Manifest[]>): void {
  mkdirSync(path.join(target, 'files'));
  const configMaps = [...builds.values()].flat().filter(({ kind }) => kind === 'ConfigMap');
  for (const [name, text] of configMaps.flatMap(({ data }) => Object.entries(data as Readonly<Record<string, string>>)))
    writeFileSync(path.join(target, 'files', name), text);
}

/** One template for each object, so that a problem of Helm names its file. */
function writeTemplates(builds: ReadonlyMap<string, Manifest[]>): void {
  const written = new Set<string>();
  for (const adding of [undefined, ...components]) {
    const chosen = components.filter(({ name }) => name === adding?.name || name === adding?.needs);
    for (const manifest of builds.get(keyOf(chosen)) ?? []) {
      const id = idOf(manifest);
      if (written.has(id)) continue;
      written.add(id);
      const beside = adding !== undefined && addsChangedObjects.includes(adding.name) ? adding : undefined;
      const cases = casesOf(builds, id, beside);
      if (id === 'configmap-kura-envoy') writeBootstrap(cases);
      const lines = emitObject(cases.map(withTemplates), { repeat: repeatOf });
      const text = [...header, ...around(beside, manifest.kind === autoscaler ? unlessFixed(lines) : lines)].join('\n');
      writeFileSync(path.join(target, 'templates', `${id}.yaml`), `${text}\n`);
    }
  }
}

function unlessFixed(lines: readonly string[]): string[] {
  return ['{{- if not $.Values.envoy.replicas }}', ...lines, '{{- end }}'];
}

/** Asks for the component that adds the object. */
function around(adding: Component | undefined, lines: readonly string[]): string[] {
  if (adding === undefined) return [...lines];
  if (adding.name !== 'zone-per-deployment') return [`{{- if ${adding.flag} }}`, ...lines, '{{- end }}'];
  return ['{{- range $zone := $.Values.zones }}', '---', ...lines.map((line) => line.replaceAll(firstZone, '{{ $zone }}')), '{{- end }}'];
}

/** The object as each component leaves it, beside the component whose objects others change. */
function casesOf(builds: ReadonlyMap<string, Manifest[]>, id: string, beside: Component | undefined): Case[] {
  const find = (names: readonly (string | undefined)[]): Value | undefined =>
    builds.get(keyOf(components.filter(({ name }) => names.includes(name))))?.find((manifest) => idOf(manifest) === id);
  const others = components.filter(({ name }) => name !== beside?.name);
  return [
    { flag: undefined, value: find([beside?.name, beside?.needs]) },
    ...others.map(({ name, flag, needs }) => ({
      flag,
      parent: components.find((one) => one.name === needs)?.flag,
      value: find([beside?.name, beside?.needs, name, needs]),
    })),
  ];
}

function withTemplates({ value, ...rest }: Case): Case {
  return { ...rest, value: value === undefined ? undefined : withValues(value as unknown as Manifest, namespace) };
}

/** The data of ConfigMap kura-envoy, in a template that the name of the ConfigMap hashes too. */
function writeBootstrap(cases: readonly Case[]): void {
  const data = cases.map(({ value, ...rest }) => {
    const names = Object.keys((value as unknown as Manifest).data as object);
    return { ...rest, value: Object.fromEntries(names.map((name) => [name, fileText(name)])) };
  });
  const lines = emitObject(data, { repeat: () => undefined });
  const text = ['{{- define "kura.bootstrap" -}}', '{{- $c := $.Values.components -}}', ...lines, extraFragments, '{{- end -}}'].join('\n');
  writeFileSync(path.join(target, 'templates', '_bootstrap.tpl'), `${text}\n`);
}

/** Entries of lists that represent all disks. Their numbers become the number of the disk. */
function repeatOf(key: string): Repeat | 'skip' | undefined {
  const number = /^(?:shard|metrics|disk)-(\d+)$|^\/data\/(\d+)$/
    .exec(key)
    ?.slice(1)
    .find((found) => found !== undefined);
  if (number === undefined || number === '0') return undefined;
  return number === '1' ? { begin: '{{- range $i, $disk := rest $.Values.disks }}', change: numbered } : 'skip';
}

function numbered(line: string): string {
  return line
    .replaceAll(/\b(shard|metrics|disk)-1\b/g, '$1-{{ add1 $i }}')
    .replaceAll(/\b(7[01]0)1\b/g, '{{ add1 $i | add $10 }}')
    .replaceAll('/data/1', '/data/{{ add1 $i }}')
    .replaceAll(builtDisks[1] as string, '{{ $disk }}');
}

/** The hash at the end of a name is another one in each build. */
function idOf({ kind, metadata }: Manifest): string {
  const name = kind === 'ConfigMap' ? metadata.name.replace(/-[a-z0-9]{10}$/, '') : metadata.name;
  // hostpath changes the kind of the shards.
  return `${kind === 'DaemonSet' ? 'StatefulSet' : kind}-${name}`.toLowerCase();
}
