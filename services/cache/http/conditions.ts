/** Pure: evaluates conditional requests and range requests (RFC 9110, sections 13 and 14). */

/** The version of an object that a condition is compared with. */
export interface Version {
  readonly tag: string;
  /** Whole seconds since 1970, the resolution of `Last-Modified`. */
  readonly modifiedSeconds: number;
}

export interface WriteConditions {
  readonly ifMatch: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly ifUnmodifiedSince: string | undefined;
}

interface ReadConditions extends WriteConditions {
  readonly ifModifiedSince: string | undefined;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
}

export type ReadPlan =
  | { readonly kind: 'whole'; readonly start: 0; readonly end: number }
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'not-modified' }
  | { readonly kind: 'precondition-failed' }
  | { readonly kind: 'unsatisfiable' };

/** Evaluates the conditions in the order of RFC 9110, 13.2.2. A range on HEAD is ignored (14.2). */
export function planRead(object: Version & { readonly length: number }, isHead: boolean, conditions: ReadConditions): ReadPlan {
  const { length, tag } = object;
  const { ifMatch, ifNoneMatch, ifUnmodifiedSince, ifModifiedSince } = conditions;
  if (ifMatch !== undefined ? !isMatch(ifMatch, object) : isModifiedSince(object, ifUnmodifiedSince))
    return { kind: 'precondition-failed' };
  const isKnown = ifNoneMatch !== undefined ? isNoneMatchHit(ifNoneMatch, tag) : isUnmodified(object, ifModifiedSince);
  if (isKnown) return { kind: 'not-modified' };
  if (conditions.range === undefined || isHead || !isRangeFresh(conditions.ifRange, tag)) return { kind: 'whole', start: 0, end: length };
  return resolveRange(conditions.range, length);
}

export function isConditional({ ifMatch, ifNoneMatch, ifUnmodifiedSince }: WriteConditions): boolean {
  return ifMatch !== undefined || ifNoneMatch !== undefined || ifUnmodifiedSince !== undefined;
}

/** Whether a PUT or DELETE may change the object. `current` is undefined if no object is stored. */
export function mayWrite(current: Version | undefined, { ifMatch, ifNoneMatch, ifUnmodifiedSince }: WriteConditions): boolean {
  if (ifMatch !== undefined) {
    if (current === undefined || !isMatch(ifMatch, current)) return false;
  } else if (current !== undefined && isModifiedSince(current, ifUnmodifiedSince)) return false;
  return ifNoneMatch === undefined || current === undefined || !isNoneMatchHit(ifNoneMatch, current.tag);
}

/**
 * Resolves a `Range` field against a body of `length` bytes; `end` is exclusive. A field that is not exactly one valid range of bytes is
 * ignored, for example a list of ranges. A server may ignore `Range` (https://www.rfc-editor.org/rfc/rfc9110#section-14.2).
 */
function resolveRange(field: string, length: number): ReadPlan {
  const whole: ReadPlan = { kind: 'whole', start: 0, end: length };
  const match = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i.exec(field);
  if (match === null) return whole;
  const [, first, last] = match as unknown as [string, string, string];
  if (first === '' && last === '') return whole;
  if (first === '') {
    if (Number(last) === 0) return { kind: 'unsatisfiable' };
    // The last bytes of an empty object are the whole object.
    return length === 0 ? whole : { kind: 'part', start: Math.max(0, length - Number(last)), end: length };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return whole;
  if (start >= length) return { kind: 'unsatisfiable' };
  return { kind: 'part', start, end: last === '' ? length : Math.min(Number(last) + 1, length) };
}

/** `If-Match` uses the strong comparison (RFC 9110, 13.1.1). */
function isMatch(field: string, { tag }: Version): boolean {
  return field.trim() === '*' || field.split(',').some((item) => item.trim() === tag);
}

/** `If-None-Match` uses the weak comparison (RFC 9110, 13.1.2): true when the client already has this version. */
function isNoneMatchHit(field: string, tag: string): boolean {
  return field.trim() === '*' || field.split(',').some((item) => item.trim().replace(/^W\//, '') === tag);
}

/** A field with an invalid date is ignored (RFC 9110, 13.1.4). */
function isModifiedSince({ modifiedSeconds }: Version, field: string | undefined): boolean {
  const since = secondsOf(field);
  return since !== undefined && modifiedSeconds > since;
}

/** A field with an invalid date is ignored (RFC 9110, 13.1.3). */
function isUnmodified({ modifiedSeconds }: Version, field: string | undefined): boolean {
  const since = secondsOf(field);
  return since !== undefined && modifiedSeconds <= since;
}

/** `If-Range` uses the strong comparison (RFC 9110, 13.1.5). A date never matches: two versions can have the same second. */
function isRangeFresh(field: string | undefined, tag: string): boolean {
  return field === undefined || field.trim() === tag;
}

/** Parses a date in one of the three formats of RFC 9110, 5.6.7. */
function secondsOf(field: string | undefined): number | undefined {
  if (field === undefined || !/^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? .*\d\d:\d\d:\d\d/.test(field)) return undefined;
  const ms = Date.parse(field.endsWith('GMT') ? field : `${field} GMT`);
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1000);
}
