/** Pure: the query of a list or a watch, https://kubernetes.io/docs/reference/using-api/api-concepts/. */
import { ApiError, badRequest, invalid } from './status.ts';

export interface ListOptions {
  readonly labelSelector: string;
  readonly fieldSelector: string;
  /** Undefined: any; 0 counts as any too. */
  readonly resourceVersion: number | undefined;
  readonly match: 'Exact' | 'NotOlderThan' | undefined;
  /** 0: no limit. */
  readonly limit: number;
  readonly continue: string | undefined;
}

interface WatchOptions extends ListOptions {
  /** Undefined: as the version says (without one, or from 0, a watch begins with everything). */
  readonly sendInitialEvents: boolean | undefined;
  readonly bookmarks: boolean;
  readonly timeoutSeconds: number | undefined;
}

function readCommon(query: URLSearchParams): ListOptions {
  const version = query.get('resourceVersion') ?? '';
  if (!/^\d{0,15}$/.test(version)) {
    const why = `strconv.ParseUint: parsing ${JSON.stringify(version)}: invalid syntax`;
    throw badRequest(`invalid resource version: resourceVersion: Invalid value: ${JSON.stringify(version)}: ${why}`);
  }
  const match = query.get('resourceVersionMatch') ?? '';
  if (match !== '' && match !== 'Exact' && match !== 'NotOlderThan') {
    throw forbidden(`supported values: "Exact", "NotOlderThan", ""`);
  }
  return {
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: query.get('fieldSelector') ?? '',
    resourceVersion: version === '' || version === '0' ? undefined : Number(version),
    match: match === '' ? undefined : match,
    limit: readInteger(query, 'limit') ?? 0,
    continue: query.get('continue') || undefined,
  };
}

/** Throws ApiError (400 or 422) for what the real API refuses. */
export function readListOptions(query: URLSearchParams): ListOptions {
  const options = readCommon(query);
  if (options.match !== undefined && !query.get('resourceVersion')) {
    throw forbidden('resourceVersionMatch is forbidden unless resourceVersion is provided');
  }
  if (options.match === 'Exact' && options.resourceVersion === undefined) {
    throw forbidden('resourceVersionMatch "exact" is forbidden for resourceVersion "0"');
  }
  return options;
}

/** Throws ApiError (400, 422 or 500) for what the real API refuses. */
export function readWatchOptions(query: URLSearchParams): WatchOptions {
  const version = query.get('resourceVersion') ?? '';
  if (!/^\d{0,15}$/.test(version)) {
    const why = `strconv.ParseUint: parsing ${JSON.stringify(version)}: invalid syntax`;
    throw new ApiError({ code: 500, message: `resourceVersion: Invalid value: ${JSON.stringify(version)}: ${why}` });
  }
  const options = readCommon(query);
  const sends = query.get('sendInitialEvents');
  const sendInitialEvents = sends === null || sends === '' ? undefined : isTrue(sends);
  if (sendInitialEvents === undefined && options.match !== undefined) {
    throw forbidden('resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
  }
  if (sendInitialEvents !== undefined && options.match !== 'NotOlderThan') {
    throw forbidden('sendInitialEvents requires setting resourceVersionMatch to NotOlderThan');
  }
  const bookmarks = isTrue(query.get('allowWatchBookmarks'));
  return { ...options, sendInitialEvents, bookmarks, timeoutSeconds: readInteger(query, 'timeoutSeconds') };
}

export function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1';
}

function readInteger(query: URLSearchParams, name: string): number | undefined {
  const value = query.get(name);
  if (value === null || value === '') return undefined;
  if (!/^\d{1,15}$/.test(value)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
  return Number(value);
}

function forbidden(why: string): ApiError {
  const problem = { field: 'resourceVersionMatch', reason: 'FieldValueForbidden', message: `Forbidden: ${why}` } as const;
  return invalid({ kind: 'ListOptions', group: 'meta.k8s.io' }, '', [problem]);
}
