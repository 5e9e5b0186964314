/** Pure: the stored objects and bytes of each namespace. Only the largest namespaces are listed by name. */
import { type Groups, overflowGroup, unknownGroup } from './groups.ts';
import type { ObjectIndex } from './object-index.ts';
import type { Shares } from './shares.ts';
import { fileBlockBytes } from './space.ts';

export interface NamespaceUse {
  readonly namespace: string;
  readonly objects: number;
  readonly bytes: number;
  /** Undefined if the policy sets none. */
  readonly share: number | undefined;
}

/** Namespaces that are listed by name. All others are one sum. */
const maxNamed = 100;

export function namespaceUse({ index, groups, shares }: { index: ObjectIndex; groups: Groups; shares: Shares }): NamespaceUse[] {
  const sums = new Map<string, { objects: number; bytes: number }>();
  for (let group = 0; group < groups.size; group += 1) {
    const objects = index.groupCount(group);
    if (objects === 0) continue;
    const namespace = nameOf(group, groups);
    const sum = sums.get(namespace) ?? { objects: 0, bytes: 0 };
    sum.objects += objects;
    sum.bytes += index.groupBlocks(group) * fileBlockBytes;
    sums.set(namespace, sum);
  }
  const all = [...sums].map(([namespace, sum]) => ({ namespace, ...sum, share: shares.poolOf(namespace).share || undefined }));
  all.sort((one, other) => other.bytes - one.bytes);
  const rest = all.slice(maxNamed);
  if (rest.length === 0) return all;
  const total = { objects: 0, bytes: 0 };
  for (const { objects, bytes } of rest) {
    total.objects += objects;
    total.bytes += bytes;
  }
  return [...all.slice(0, maxNamed), { namespace: '(others)', ...total, share: undefined }];
}

/** No namespace has parentheses in its name. */
function nameOf(group: number, groups: Groups): string {
  if (group === unknownGroup || group === overflowGroup) return '(unknown)';
  return groups.name(group)?.namespace || '(none)';
}
