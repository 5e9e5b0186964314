/** Pure: JSON merge patch, https://www.rfc-editor.org/rfc/rfc7386, and of the strategic one what lists of the stand-in's kinds need. */
import { type Fields, isFields } from './object.ts';

export function mergePatch(target: unknown, patch: unknown): unknown {
  return merge(target, patch, () => undefined);
}

/**
 * Merges lists whose elements have a key element by element, as
 * https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md says; others are replaced whole.
 */
export function strategicMergePatch(target: unknown, patch: unknown): unknown {
  return merge(target, patch, (field, items) => mergeKeys[field]?.find((key) => items.every((item) => isFields(item) && key in item)));
}

/** The patchMergeKey of each list in the stand-in's kinds; `ports` has another one in a container than in a Service. */
const mergeKeys: Readonly<Record<string, readonly string[]>> = {
  conditions: ['type'],
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  volumes: ['name'],
  env: ['name'],
  volumeMounts: ['mountPath'],
  imagePullSecrets: ['name'],
  secrets: ['name'],
  podIPs: ['ip'],
  hostAliases: ['ip'],
  ports: ['containerPort', 'port'],
  addresses: ['type'],
  taints: ['key'],
  ownerReferences: ['uid'],
};

type KeyOfList = (field: string, items: readonly unknown[]) => string | undefined;

function merge(target: unknown, patch: unknown, keyOfList: KeyOfList): unknown {
  if (!isFields(patch)) return patch;
  const merged: Record<string, unknown> = isFields(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (field.startsWith('$')) continue;
    if (value === null) delete merged[field];
    else merged[field] = Array.isArray(value) ? mergeList(field, merged[field], value, keyOfList) : merge(merged[field], value, keyOfList);
  }
  return merged;
}

function mergeList(field: string, target: unknown, patch: readonly unknown[], keyOfList: KeyOfList): unknown {
  // EndpointSlices have `ports` and `addresses` too, as atomic lists; there the strategic patch is not offered (patch.ts).
  const key = keyOfList(field, patch);
  if (key === undefined || !Array.isArray(target)) return patch;
  const merged = [...target] as Fields[];
  const added: Fields[] = [];
  for (const item of patch as readonly Fields[]) {
    const at = merged.findIndex((present) => present[key] === item[key]);
    if (item.$patch === 'delete') {
      if (at >= 0) merged.splice(at, 1);
    } else if (at >= 0) merged[at] = merge(merged[at], item, keyOfList) as Fields;
    else added.push(item);
  }
  return [...added, ...merged];
}
