/** Pure: which data set a key is taken to belong to. */
import type { Key } from '../shared/key.ts';

/**
 * The first four segments of a key, `scheme://host` counting as one: what a data set is taken to be, for eviction (decisions.md).
 * The last segment is the object's own name and never part of its prefix.
 */
export function prefixOf(key: Key): string {
  let end = 0;
  for (let segments = 0; segments < prefixSegments; segments += 1) {
    let next = key.indexOf('/', end);
    if (next > 0 && key[next - 1] === ':' && key[next + 1] === '/') next = key.indexOf('/', next + 2);
    if (next === -1) break;
    end = next + 1;
  }
  return key.slice(0, end);
}

const prefixSegments = 4;
