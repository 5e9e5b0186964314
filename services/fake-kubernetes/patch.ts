/**
 * Pure: applies a PATCH request by its content type. `kubectl apply` and `kubectl edit` send strategic merge patches. Without directives
 * these differ from JSON merge patches (https://www.rfc-editor.org/rfc/rfc7386) only in lists, and a ConfigMap or an Event has no list.
 */
import { type Fields, isFields, type ObjectInput, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import { ApiError, badRequest, invalid, unsupportedMediaType } from './status.ts';
import { requireForm } from './validation.ts';

const patchTypes = ['application/merge-patch+json', 'application/strategic-merge-patch+json'] as const;
type PatchType = (typeof patchTypes)[number];

/** Throws ApiError (415) for a content type that is not a merge patch. */
export function requirePatchType(contentType: string): PatchType {
  const type = patchTypes.find((candidate) => candidate === contentType);
  if (type === undefined) throw unsupportedMediaType(`the content type is "${contentType}"; it must be ${patchTypes.join(' or ')}`);
  return type;
}

/** Throws ApiError: 400 for an invalid patch, 422 for a directive or for a result that is not valid. */
export function applyPatch(
  resource: Resource,
  { present, patch, type }: { readonly present: StoredObject; readonly patch: unknown; readonly type: PatchType },
): ObjectInput {
  if (!isFields(patch)) throw badRequest('error decoding patch: a merge patch is an object');
  const directive = type === 'application/strategic-merge-patch+json' ? directiveIn(patch) : undefined;
  if (directive !== undefined) throw unfit(`the directive ${directive} is not supported by the fake Kubernetes API`);
  const patched = merge(present, patch) as ObjectInput;
  try {
    requireForm(resource, patched);
  } catch (error) {
    throw error instanceof ApiError ? unfit(error.message) : error;
  }
  return patched;
}

/** The real API uses this form for a result that it cannot decode. */
function unfit(why: string): ApiError {
  return invalid({ kind: '', group: '' }, '', { field: 'patch', reason: 'FieldValueInvalid', message: `Invalid value: ${why}` });
}

/** The first key such as `$patch` or `$setElementOrder/…`, at any depth. */
function directiveIn(part: unknown): string | undefined {
  if (typeof part !== 'object' || part === null) return undefined;
  for (const [field, value] of Object.entries(part)) {
    const found = field.startsWith('$') ? field : directiveIn(value);
    if (found !== undefined) return found;
  }
  return undefined;
}

function merge(target: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const merged: Record<string, unknown> = isFields(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch as Fields)) {
    if (value === null) delete merged[field];
    else merged[field] = merge(merged[field], value);
  }
  return merged;
}
