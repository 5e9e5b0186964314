/** Pure: numbers for groups. A group is what eviction treats as one: a namespace's objects under one prefix. */

import type { Key } from '../../shared/key.ts';
import { maxGroups } from './object-index.ts';

/** Objects whose namespace and prefix are not known yet: found on disk after a start without a snapshot. */
export const unknownGroup = 0;
/** Shared by all groups beyond the 65,534 that get a number of their own. */
export const overflowGroup = 1;

export interface GroupName {
  readonly namespace: string;
  readonly prefix: string;
}

export class Groups {
  readonly #numbers = new Map<string, number>();
  readonly #names: (GroupName | undefined)[] = [
    { namespace: '', prefix: '(unknown)' },
    { namespace: '', prefix: '(others)' },
  ];
  readonly #isEmpty: (group: number) => boolean;
  readonly #onNamed: (group: number, name: GroupName) => void;
  #sweptAt = 2;

  /** `isEmpty` says whether the index holds nothing under a group, so that its number may name another; `onNamed` is told of every number that gets a name. */
  constructor(isEmpty: (group: number) => boolean, onNamed: (group: number, name: GroupName) => void = () => {}) {
    this.#isEmpty = isEmpty;
    this.#onNamed = onNamed;
  }

  number(name: GroupName): number {
    const text = `${name.namespace}\0${name.prefix}`;
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    const number = this.#names.length < maxGroups ? this.#names.length : this.#reuse();
    if (number === undefined) return overflowGroup;
    this.#names[number] = name;
    this.#numbers.set(text, number);
    this.#onNamed(number, name);
    return number;
  }

  name(group: number): GroupName | undefined {
    return this.#names[group];
  }

  get size(): number {
    return this.#names.length;
  }

  /** Looks at 1,024 numbers at most, so that a full table does not cost every PUT a scan. */
  #reuse(): number | undefined {
    for (let looks = 0; looks < 1024; looks += 1) {
      const group = this.#sweptAt;
      this.#sweptAt = group + 1 < maxGroups ? group + 1 : 2;
      if (!this.#isEmpty(group)) continue;
      const name = this.#names[group] as GroupName;
      this.#numbers.delete(`${name.namespace}\0${name.prefix}`);
      return group;
    }
    return undefined;
  }
}

const prefixSegments = 4;

/**
 * The first four segments of a key, `scheme://host` counting as one: what a data set is taken to be, for eviction.
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
