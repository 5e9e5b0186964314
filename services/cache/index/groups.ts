/** Pure: assigns numbers to groups. A group is the unit of eviction: the objects of one namespace with one prefix. */
import type { Key } from '../../shared/key.ts';
import { maxGroups } from './object-index.ts';

/** Objects whose namespace and prefix are not known yet: found on disk after a start without a snapshot. */
export const unknownGroup = 0;
/** The group for objects of namespaces without a share when no number is free. It belongs to no namespace. */
export const overflowGroup = 1;
/** Groups with a prefix in one namespace. One workload must not use up the numbers, and a prefix with few objects is not a data set. */
export const maxGroupsOfNamespace = 256;
/** The prefix of the group for all further objects of a namespace. A real prefix is empty or ends with a slash. */
export const othersPrefix = '(others)';
/**
 * The last numbers are reserved for the `(others)` groups of namespaces with a share, when no other number is free. At most 1,023
 * namespaces have a share at the same time. The other reserved numbers are for namespaces that have lost their share but still have
 * objects. When all are used, a namespace uses the overflow group, where its share does not limit its objects.
 */
const reservedGroups = 2048;
const firstGroup = 2;
const firstReserved = maxGroups - reservedGroups;
/** Numbers that one search for an empty group checks, so that a full table does not cost every PUT a scan. */
const maxLooks = 1024;

export interface GroupName {
  readonly namespace: string;
  readonly prefix: string;
}

interface GroupsOptions {
  /** Whether the index has no objects of a group, so that its number can be reused. */
  readonly isEmpty: (group: number) => boolean;
  /** Called for every number that gets a name. */
  readonly onNamed?: (group: number, name: GroupName) => void;
  readonly hasShare?: (namespace: string) => boolean;
}

/** A range of numbers, and the next number to check when all of them are used. */
interface Range {
  readonly first: number;
  readonly end: number;
  sweptAt: number;
}

export class Groups {
  /** By namespace and prefix. It has a namespace while the namespace has a group. */
  readonly #numbers = new Map<string, Map<string, number>>();
  readonly #names: (GroupName | undefined)[] = [undefined, undefined];
  readonly #ordinary: Range = { first: firstGroup, end: firstReserved, sweptAt: firstGroup };
  readonly #reserve: Range = { first: firstReserved, end: maxGroups, sweptAt: firstReserved };
  readonly #options: GroupsOptions;
  /** Length of all names. */
  nameBytes = 0;

  constructor(options: GroupsOptions) {
    this.#options = options;
  }

  number({ namespace, prefix }: GroupName): number {
    const own = this.#numbers.get(namespace);
    const known = own?.get(prefix);
    if (known !== undefined) return known;
    if (prefix === othersPrefix) return this.#othersOf(namespace);
    const others = own?.has(othersPrefix) ? 1 : 0;
    const isFull = own !== undefined && own.size - others >= maxGroupsOfNamespace;
    const number = isFull ? this.#emptyOf(own) : this.#take(this.#ordinary);
    if (number === undefined) return this.#othersOf(namespace);
    return this.#setName(number, { namespace, prefix });
  }

  /** Undefined for a group that belongs to no namespace. */
  name(group: number): GroupName | undefined {
    return this.#names[group];
  }

  /** The numbers of a namespace's groups. */
  ofNamespace(namespace: string): Iterable<number> {
    return this.#numbers.get(namespace)?.values() ?? [];
  }

  /** Whether the objects of a group have a prefix in common. */
  isDataSet(group: number): boolean {
    const name = this.#names[group];
    return name !== undefined && name.prefix !== othersPrefix;
  }

  get size(): number {
    return this.#names.length;
  }

  #othersOf(namespace: string): number {
    const known = this.#numbers.get(namespace)?.get(othersPrefix);
    if (known !== undefined) return known;
    let number = this.#take(this.#ordinary);
    if (number === undefined && this.#options.hasShare?.(namespace)) number = this.#take(this.#reserve);
    return number === undefined ? overflowGroup : this.#setName(number, { namespace, prefix: othersPrefix });
  }

  #emptyOf(own: ReadonlyMap<string, number>): number | undefined {
    for (const [prefix, group] of own) if (prefix !== othersPrefix && this.#options.isEmpty(group)) return group;
    return undefined;
  }

  /** An unused number, or the number of an empty group. */
  #take(range: Range): number | undefined {
    // The reserve begins when all other numbers are used, so that the names have no gap.
    if (this.#names.length < range.end) return this.#names.length;
    for (let looks = Math.min(maxLooks, range.end - range.first); looks > 0; looks -= 1) {
      const group = range.sweptAt;
      range.sweptAt = group + 1 < range.end ? group + 1 : range.first;
      if (this.#options.isEmpty(group)) return group;
    }
    return undefined;
  }

  #setName(group: number, name: GroupName): number {
    this.#forgetName(group);
    this.#names[group] = name;
    this.nameBytes += lengthOf(name);
    let own = this.#numbers.get(name.namespace);
    if (own === undefined) {
      own = new Map();
      this.#numbers.set(name.namespace, own);
    }
    own.set(name.prefix, group);
    this.#options.onNamed?.(group, name);
    return group;
  }

  #forgetName(group: number): void {
    const name = this.#names[group];
    if (name === undefined) return;
    this.nameBytes -= lengthOf(name);
    const own = this.#numbers.get(name.namespace);
    own?.delete(name.prefix);
    if (own?.size === 0) this.#numbers.delete(name.namespace);
  }
}

function lengthOf({ namespace, prefix }: GroupName): number {
  return namespace.length + prefix.length;
}

const prefixSegments = 4;

/**
 * The first four segments of a key, which identify a data set for eviction. `scheme://host` counts as one segment.
 * The last segment names the object and is never part of the prefix.
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
