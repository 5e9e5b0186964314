/** Pure: `Range`, `If-Range` and the entity-tag conditions of RFC 9110. */

type RangeResult =
  | { readonly kind: 'whole' }
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'unsatisfiable' };

/**
 * What a `Range` field asks of a body of `length` bytes; `end` is exclusive. A field that is not one valid bytes range is ignored, several ranges too: a server may
 * (https://www.rfc-editor.org/rfc/rfc9110#section-14.2), and the whole is always a right answer.
 */
export function resolveRange(field: string | undefined, length: number): RangeResult {
  if (field === undefined) return { kind: 'whole' };
  const match = /^bytes=[ \t]*(\d{0,15})-(\d{0,15})[ \t]*$/i.exec(field);
  if (match === null) return { kind: 'whole' };
  const [, first, last] = match as unknown as [string, string, string];
  if (first === '' && last === '') return { kind: 'whole' };
  if (first === '') {
    const suffix = Math.min(Number(last), length);
    return suffix === 0 ? { kind: 'unsatisfiable' } : { kind: 'part', start: length - suffix, end: length };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return { kind: 'whole' };
  if (start >= length) return { kind: 'unsatisfiable' };
  return { kind: 'part', start, end: last === '' ? length : Math.min(Number(last) + 1, length) };
}

/** `If-None-Match` uses the weak comparison (RFC 9110, 13.1.2): true when the client already has this version. */
export function isNoneMatchHit(field: string, tag: string): boolean {
  return field.trim() === '*' || field.split(',').some((item) => item.trim().replace(/^W\//, '') === tag);
}

/** `If-Range` uses the strong comparison (RFC 9110, 13.1.5); a date never matches, since no Last-Modified is sent. */
export function isRangeFresh(field: string | undefined, tag: string): boolean {
  return field === undefined || field.trim() === tag;
}
