/** Pure: reads YAML nodes into typed values. Reports each deviation with its line and column. */
import { isMap, isScalar, isSeq, type Node, type Scalar, type YAMLMap } from 'yaml';
import { parseQuantity } from '../../shared/quantity.ts';

/** Line and column start at 1. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** Maximum length of each list. */
const maxEntries = 1_000;
const alternatives = new Intl.ListFormat('en', { type: 'disjunction' });

/**
 * Reads nodes into values and collects problems. An invalid value becomes a harmless one, because a problem rejects the document anyway.
 */
export class StrictReader {
  readonly problems: Problem[] = [];
  readonly warnings: Problem[] = [];
  readonly #at: (offset: number, message: string) => Problem;

  constructor(at: (offset: number, message: string) => Problem) {
    this.#at = at;
  }

  line(node: unknown): number {
    return this.#at(offsetOf(node), '').line;
  }

  wrong(node: unknown, message: string): void {
    this.problems.push(this.#at(offsetOf(node), message));
  }

  warn(node: unknown, message: string): void {
    this.warnings.push(this.#at(offsetOf(node), message));
  }

  /** The fields of a mapping by name. Unknown and missing fields are problems. */
  fields(
    node: unknown,
    what: string,
    known: { readonly required: readonly string[]; readonly optional?: readonly string[] },
  ): Map<string, Node> {
    const fields = new Map<string, Node>();
    if (!isMap(node)) {
      this.wrong(node, `${what} is not a mapping`);
      return fields;
    }
    const names = [...known.required, ...(known.optional ?? [])];
    for (const pair of (node as YAMLMap<Scalar, Node>).items) {
      const name = String(pair.key?.value);
      if (!names.includes(name)) this.wrong(pair.key, `${what} has no field "${name}"; the fields are ${names.join(', ')}`);
      else if (pair.value === null) this.wrong(pair.key, `${what}: ${name} has no value`);
      else fields.set(name, pair.value);
    }
    for (const name of known.required) if (!fields.has(name)) this.wrong(node, `${what} lacks the field "${name}"`);
    return fields;
  }

  list<T>(node: Node | undefined, what: string, read: (item: unknown) => T, { mayBeEmpty = true } = {}): T[] {
    if (node === undefined) return [];
    if (!isSeq(node)) {
      this.wrong(node, `${what} is not a list`);
      return [];
    }
    if (node.items.length > maxEntries) this.wrong(node, `${what} has more than ${maxEntries} entries`);
    if (node.items.length === 0 && !mayBeEmpty) this.wrong(node, `${what} is empty`);
    return node.items.slice(0, maxEntries).map(read);
  }

  text(node: unknown, what: string, pattern: RegExp, form: string): string {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== 'string') this.wrong(node, `${what} is not a string`);
    else if (!pattern.test(value)) this.wrong(node, `${what}: "${value.slice(0, 100)}" is not ${form}`);
    return typeof value === 'string' ? value : '';
  }

  choice<const T extends string>(node: unknown, what: string, choices: readonly T[]): T {
    const value = isScalar(node) ? node.value : undefined;
    const chosen = choices.find((choice) => choice === value);
    if (chosen === undefined)
      this.wrong(node, `${what} is ${JSON.stringify(value) ?? 'not a scalar'}; it must be ${alternatives.format(choices)}`);
    return chosen ?? (choices[0] as T);
  }

  number(node: unknown, what: string, { min, max }: { min: number; max: number }): number {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value === 'number' && value >= min && value <= max) return value;
    this.wrong(node, `${what} is not a number from ${min} to ${max}`);
    return min;
  }

  /** A number, or a string such as `64Gi`. */
  bytes(node: unknown, what: string, { min = 0 }: { min?: number } = {}): number {
    const value = isScalar(node) ? node.value : undefined;
    const read = parseQuantity(String(value));
    if (read !== undefined && read >= min) return read;
    this.wrong(node, `${what} is not a size such as 500M or 64Gi${min === 0 ? '' : ` of at least ${min}`}`);
    return 0;
  }
}

function offsetOf(node: unknown): number {
  return (node as Partial<Node> | undefined)?.range?.[0] ?? 0;
}
