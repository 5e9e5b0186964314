/** Pure: the patch of a PATCH request by its content type. */
import { jsonPatch, MalformedPatch, PatchFailed } from './json-patch.ts';
import { mergePatch, strategicMergePatch } from './merge-patch.ts';
import { isFields, type ObjectInput, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import { ApiError, badRequest, invalid } from './status.ts';
import { requireForm } from './validation.ts';

const patchTypes = ['application/json-patch+json', 'application/merge-patch+json', 'application/strategic-merge-patch+json'] as const;
type PatchType = (typeof patchTypes)[number];

/** Throws ApiError (415) for a content type that is no patch, server-side apply included. */
export function requirePatchType(header = ''): PatchType {
  const type = patchTypes.find((candidate) => candidate === header.split(';', 1)[0]?.trim());
  if (type !== undefined) return type;
  throw new ApiError({ code: 415, reason: 'UnsupportedMediaType', message: '415: Unsupported Media Type', details: {} });
}

/** Applies a patch. Throws ApiError: 400 for what is no patch, 422 for one that does not fit. */
export function applyPatch({
  resource,
  present,
  patch,
  contentType,
}: {
  resource: Resource;
  present: StoredObject;
  patch: unknown;
  contentType: PatchType;
}): ObjectInput {
  const patched = patchedBy({ resource, present, patch, type: contentType });
  if (!isFields(patched)) throw badRequest('the patched object is no object');
  requireFit(resource, { present, patched: patched as ObjectInput });
  return patched as ObjectInput;
}

/** A patch whose result has not the form of the kind, or another uid, is invalid: 422 where a replacement would be answered 400 and 409. */
function requireFit(resource: Resource, { present, patched }: { present: StoredObject; patched: ObjectInput }): void {
  const { uid } = patched.metadata ?? {};
  if (uid !== undefined && uid !== present.metadata.uid) {
    const message = `Invalid value: ${JSON.stringify(uid)}: field is immutable`;
    throw invalid(resource, present.metadata.name, [{ field: 'metadata.uid', reason: 'FieldValueInvalid', message }]);
  }
  try {
    requireForm(resource, patched);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    throw invalid({ kind: '', group: '' }, '', [
      { field: 'patch', reason: 'FieldValueInvalid', message: `Invalid value: ${error.message}` },
    ]);
  }
}

function patchedBy({
  resource,
  present,
  patch,
  type,
}: {
  resource: Resource;
  present: StoredObject;
  patch: unknown;
  type: PatchType;
}): unknown {
  switch (type) {
    case 'application/json-patch+json':
      try {
        return jsonPatch(present, patch);
      } catch (error) {
        if (error instanceof MalformedPatch) throw badRequest(`error decoding patch: ${error.message}`);
        if (!(error instanceof PatchFailed)) throw error;
        const message = 'the server rejected our request due to an error in our request';
        throw new ApiError({ code: 422, reason: 'Invalid', message, details: {} });
      }
    case 'application/merge-patch+json':
      return mergePatch(present, requireObject(patch));
    case 'application/strategic-merge-patch+json':
      // Every list of an EndpointSlice is atomic.
      return resource.plural === 'endpointslices'
        ? mergePatch(present, requireObject(patch))
        : strategicMergePatch(present, requireObject(patch));
    default:
      return type satisfies never;
  }
}

function requireObject(patch: unknown): unknown {
  if (!isFields(patch)) throw badRequest('error decoding patch: a merge patch is an object');
  return patch;
}
