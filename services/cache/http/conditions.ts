/** Pure: what a conditional or ranged read returns: `If-None-Match`, `If-Range` and `Range` (RFC 9110, sections 13 and 14). */

interface ReadConditions {
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly ifNoneMatch: string | undefined;
}

export type ReadPlan =
  | { readonly kind: 'whole'; readonly start: 0; readonly end: number }
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'not-modified' }
  | { readonly kind: 'unsatisfiable' };

/** `If-None-Match` is evaluated first (RFC 9110, 13.2.2). A range on HEAD is ignored (14.2). */
export function planRead(object: { readonly length: number; readonly tag: string }, isHead: boolean, conditions: ReadConditions): ReadPlan {
  const { length, tag } = object;
  if (conditions.ifNoneMatch !== undefined && isNoneMatchHit(conditions.ifNoneMatch, tag)) return { kind: 'not-modified' };
  if (conditions.range === undefined || isHead || !isRangeFresh(conditions.ifRange, tag)) return { kind: 'whole', start: 0, end: length };
  return resolveRange(conditions.range, length);
}

/**
 * Resolves a `Range` field against a body of `length` bytes; `end` is exclusive. A field that is not exactly one valid bytes range is ignored, as is a list of ranges:
 * a server may ignore `Range` (https://www.rfc-editor.org/rfc/rfc9110#section-14.2), and the whole body is always a correct response.
 */
function resolveRange(field: string, length: number): ReadPlan {
  const whole: ReadPlan = { kind: 'whole', start: 0, end: length };
  const match = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i.exec(field);
  if (match === null) return whole;
  const [, first, last] = match as unknown as [string, string, string];
  if (first === '' && last === '') return whole;
  if (first === '') {
    const suffix = Math.min(Number(last), length);
    return suffix === 0 ? { kind: 'unsatisfiable' } : { kind: 'part', start: length - suffix, end: length };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return whole;
  if (start >= length) return { kind: 'unsatisfiable' };
  return { kind: 'part', start, end: last === '' ? length : Math.min(Number(last) + 1, length) };
}

/** `If-None-Match` uses the weak comparison (RFC 9110, 13.1.2): true when the client already has this version. */
function isNoneMatchHit(field: string, tag: string): boolean {
  return field.trim() === '*' || field.split(',').some((item) => item.trim().replace(/^W\//, '') === tag);
}

/** `If-Range` uses the strong comparison (RFC 9110, 13.1.5). A date never matches, since the shard sends no Last-Modified. */
function isRangeFresh(field: string | undefined, tag: string): boolean {
  return field === undefined || field.trim() === tag;
}
