/** Pure: what an object's head says for one conditional or ranged read (RFC 9110, sections 13 and 14). */
import { isNoneMatchHit, isRangeFresh, resolveRange } from './range.ts';

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

/** `If-None-Match` is looked at first (RFC 9110, 13.2.2). A range on HEAD is ignored, as section 14.2 says. */
export function planRead(object: { readonly length: number; readonly tag: string }, isHead: boolean, conditions: ReadConditions): ReadPlan {
  const { length, tag } = object;
  if (conditions.ifNoneMatch !== undefined && isNoneMatchHit(conditions.ifNoneMatch, tag)) return { kind: 'not-modified' };
  if (conditions.range === undefined || isHead || !isRangeFresh(conditions.ifRange, tag)) return { kind: 'whole', start: 0, end: length };
  const range = resolveRange(conditions.range, length);
  switch (range.kind) {
    case 'whole':
      return { kind: 'whole', start: 0, end: length };
    case 'part':
      return range;
    case 'unsatisfiable':
      return { kind: 'unsatisfiable' };
  }
}
