/** Pure: one page of a list. A list that is read page by page is one moment's, however long that takes, as far as the history reaches. */

import type { ListOptions } from './list-options.ts';
import { isFields, keyOf, type StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import type { Predicate } from './selectors.ts';
import { ApiError, badRequest, tooLargeResourceVersion } from './status.ts';
import type { ObjectStore } from './store.ts';

export interface Page {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string; readonly remainingItemCount?: number };
  readonly objects: readonly StoredObject[];
}

/** Throws ApiError: 400 for a bad position, 410 for one that is too old, 504 for a version from the future. */
export function listPage(store: ObjectStore, resource: Resource, matches: Predicate, options: ListOptions): Page {
  const position = options.continue === undefined ? undefined : readPosition(options.continue);
  const version = position === undefined ? versionAsked(store, options) : position.version;
  const all = version === undefined ? store.list(resource) : store.listAt(resource, version);
  if (all === undefined) throw tooOld(position);
  const matching = all.filter(matches);
  const from = position === undefined ? 0 : matching.findIndex(({ metadata }) => keyOf(metadata) > position.after);
  const rest = from < 0 ? [] : matching.slice(from);
  const resourceVersion = String(version ?? store.version);
  if (options.limit === 0 || rest.length <= options.limit) return { metadata: { resourceVersion }, objects: rest };
  const objects = rest.slice(0, options.limit);
  const after = keyOf((objects.at(-1) as StoredObject).metadata);
  const isCounted = options.labelSelector === '' && options.fieldSelector === '';
  return {
    metadata: {
      resourceVersion,
      continue: writePosition({ version: Number(resourceVersion), after }),
      ...(isCounted ? { remainingItemCount: rest.length - objects.length } : {}),
    },
    objects,
  };
}

interface Position {
  /** Undefined: whatever is newest, for a client that was told that its moment is gone. */
  readonly version: number | undefined;
  readonly after: string;
}

function versionAsked(store: ObjectStore, { resourceVersion, match }: ListOptions): number | undefined {
  if (resourceVersion !== undefined && resourceVersion > store.version) {
    throw tooLargeResourceVersion({ asked: resourceVersion, current: store.version });
  }
  return match === 'Exact' ? resourceVersion : undefined;
}

function tooOld(position: Position | undefined): ApiError {
  if (position === undefined || position.version === undefined) {
    return new ApiError({ code: 410, reason: 'Expired', message: 'The resourceVersion for the provided list is too old.' });
  }
  const message =
    'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.';
  const onwards = writePosition({ version: -1, after: position.after });
  return new ApiError({ code: 410, reason: 'Expired', message, continue: onwards });
}

function writePosition({ version, after }: { version: number; after: string }): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: version, start: after })).toString('base64url');
}

function readPosition(text: string): Position {
  try {
    const position = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown;
    if (isFields(position) && typeof position.rv === 'number' && typeof position.start === 'string') {
      return { version: position.rv < 0 ? undefined : position.rv, after: position.start };
    }
  } catch {
    // Falls through: what cannot be read is refused like what lacks a field.
  }
  throw badRequest('invalid continue token: continue key is not valid');
}
