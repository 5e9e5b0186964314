/** Kustomizations as an operator writes them: a base or an overlay of k8s, with components. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';

const root = path.resolve(import.meta.dirname, '..', '..', '..');

/** In the order of k8s/README.md. `monitoring/plain` replaces `monitoring`. */
export const componentNames = [
  'authz-deployment',
  'origin',
  'console',
  'hostpath',
  'disks',
  'second-disk-size',
  'direct',
  'tls',
  'monitoring',
  'monitoring/plain',
  'tracing',
  'kubernetes-1.33',
  'ipv6',
  'priority',
  'zone-per-deployment',
] as const;

export interface Kustomization {
  readonly resource?: string;
  readonly components?: readonly string[];
  readonly namespace?: string;
  readonly replicas?: readonly { readonly name: string; readonly count: number }[];
  readonly patches?: readonly object[];
}

/** Adds what a component needs. */
export function withNeeds(names: readonly string[]): string[] {
  const needsHostpath = names.includes('disks') || names.includes('second-disk-size');
  return needsHostpath && !names.includes('hostpath') ? ['hostpath', ...names] : [...names];
}

/** Resolves with the folder, for `kubectl … -k`. */
export async function writeKustomization(folder: string, { resource = 'base', components = [], ...rest }: Kustomization): Promise<string> {
  await mkdir(folder, { recursive: true });
  const at = (...names: readonly string[]): string => path.relative(folder, path.join(root, 'k8s', ...names));
  const content = { ...rest, resources: [at(resource)], components: components.map((name) => at('components', name)) };
  await writeFile(path.join(folder, 'kustomization.yaml'), stringify(content));
  return folder;
}

/** Without the order of entries that have names. */
export function sorted(value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = value.map(sorted);
    return items.every((item) => typeof item === 'object') ? items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, entry]) => [key, sorted(entry)]),
  );
}
