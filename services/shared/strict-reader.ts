/** Pure: reads a YAML document into typed values. Reports each deviation with its line and column, and guesses nothing. */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, type Scalar, type YAMLMap } from 'yaml';
import { parseDuration, parseQuantity } from './quantity.ts';

/** Line and column start at 1. */
export interface Problem {
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** A document with its meaning, or the reasons why it is rejected. */
export type Compiled<T> =
  | { readonly kind: 'document'; readonly value: T; readonly warnings: readonly Problem[] }
  | { readonly kind: 'rejected'; readonly problems: readonly Problem[] };

type StrictDocument<T> =
  | {
      readonly kind: 'document';
      readonly value: T;
      /** A problem at a node of the document, which is named by its path. */
      readonly problemAt: (path: readonly (string | number)[], message: string) => Problem;
    }
  | { readonly kind: 'rejected'; readonly problems: readonly Problem[] };

/** A ConfigMap holds 1 MiB in all. */
const maxDocumentBytes = 2 ** 20;
const maxProblems = 20;
/** In a log line and in an Event. */
const maxShownProblems = 5;
/** Maximum length of each list and of each mapping. */
const maxEntries = 1_000;
/** Over all lists. The tests of a document multiply it: 1,000 tests of the largest document take a second. */
const maxEntriesInAll = 20_000;
const alternatives = new Intl.ListFormat('en', { type: 'disjunction' });

/** Reads one document. Returns all its problems, up to 20. */
export function readStrictly<T>(text: string, read: (reader: StrictReader, contents: unknown) => T): StrictDocument<T> {
  if (Buffer.byteLength(text) > maxDocumentBytes) {
    return { kind: 'rejected', problems: [{ line: 1, column: 1, message: `the document is longer than ${maxDocumentBytes} bytes` }] };
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, version: '1.2', schema: 'core', prettyErrors: false });
  const at = (offset: number, message: string): Problem => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col, message };
  };
  const faults = [...document.errors, ...document.warnings].map(({ pos, message }) => at(pos[0], message));
  if (faults.length > 0) return { kind: 'rejected', problems: faults.slice(0, maxProblems) };
  const reader = new StrictReader(at);
  const value = read(reader, document.contents);
  if (reader.problems.length > 0) return { kind: 'rejected', problems: reader.problems.slice(0, maxProblems) };
  const problemAt = (path: readonly (string | number)[], message: string) => at(offsetOf(document.getIn(path, true)), message);
  return { kind: 'document', value, problemAt };
}

export function describeProblems(problems: readonly Problem[]): string[] {
  const shown = problems.slice(0, maxShownProblems).map(({ line, column, message }) => `line ${line}, column ${column}: ${message}`);
  return problems.length > maxShownProblems ? [...shown, `and ${problems.length - maxShownProblems} more`] : shown;
}

/**
 * Reads nodes into values and collects problems. An invalid value becomes a harmless one, because a problem rejects the document anyway.
 */
export class StrictReader {
  readonly problems: Problem[] = [];
  readonly #at: (offset: number, message: string) => Problem;
  #entries = 0;

  constructor(at: (offset: number, message: string) => Problem) {
    this.#at = at;
  }

  line(node: unknown): number {
    return this.#at(offsetOf(node), '').line;
  }

  wrong(node: unknown, message: string): void {
    this.problems.push(this.#at(offsetOf(node), message));
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
    for (const { name, key, value } of this.pairs(node, what)) {
      if (!names.includes(name)) this.wrong(key, `${what} has no field "${name.slice(0, 100)}"; the fields are ${names.join(', ')}`);
      else if (value === null) this.wrong(key, `${what}: ${name} has no value`);
      else fields.set(name, value);
    }
    for (const name of known.required) if (!fields.has(name)) this.wrong(node, `${what} lacks the field "${name}"`);
    return fields;
  }

  /** The entries of a mapping. The parser's own comparison of keys takes 15 s for 50,000 keys (measured), so it is off. */
  pairs(node: YAMLMap, what: string): { readonly name: string; readonly key: Scalar; readonly value: Node | null }[] {
    const { items } = node as YAMLMap<Scalar, Node | null>;
    if (items.length > maxEntries) this.wrong(node, `${what} has more than ${maxEntries} fields`);
    const seen = new Set<string>();
    return items.slice(0, maxEntries).map(({ key, value }) => {
      const name = String(key?.value);
      if (seen.has(name)) this.wrong(key, `${what}: the field "${name.slice(0, 100)}" is not unique`);
      seen.add(name);
      return { name, key, value };
    });
  }

  list<T>(node: Node | undefined, what: string, read: (item: unknown) => T, { mayBeEmpty = true } = {}): T[] {
    if (node === undefined) return [];
    if (!isSeq(node)) {
      this.wrong(node, `${what} is not a list`);
      return [];
    }
    if (node.items.length > maxEntries) this.wrong(node, `${what} has more than ${maxEntries} entries`);
    if (node.items.length === 0 && !mayBeEmpty) this.wrong(node, `${what} is empty`);
    const items = node.items.slice(0, maxEntries);
    const left = maxEntriesInAll - this.#entries;
    this.#entries += items.length;
    if (left >= 0 && left < items.length) this.wrong(node, `the lists of the document have more than ${maxEntriesInAll} entries in all`);
    return items.slice(0, Math.max(0, left)).map(read);
  }

  text(
    node: unknown,
    what: string,
    { pattern, form, maxBytes }: { readonly pattern: RegExp; readonly form: string; readonly maxBytes: number },
  ): string {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== 'string') this.wrong(node, `${what} is not a string`);
    else if (value.length > maxBytes) this.wrong(node, `${what}: "${value.slice(0, 100)}…" is longer than ${maxBytes} bytes`);
    else if (!pattern.test(value)) this.wrong(node, `${what}: "${value.slice(0, 100)}" is not ${form}`);
    else return value;
    return '';
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

  flag(node: unknown, what: string): boolean {
    const value = isScalar(node) ? node.value : undefined;
    if (typeof value !== 'boolean') this.wrong(node, `${what} is not true or false`);
    return value === true;
  }

  /** In milliseconds. */
  duration(node: unknown, what: string, { minMs, maxMs }: { minMs: number; maxMs: number }): number {
    const read = parseDuration(isScalar(node) ? String(node.value) : '');
    if (read !== undefined && read >= minMs && read <= maxMs) return read;
    this.wrong(node, `${what} is not a duration such as 10s or 5m, from ${minMs} ms to ${maxMs} ms`);
    return minMs;
  }

  /** A number, or a string such as `64Gi`. */
  bytes(node: unknown, what: string, { min, max }: { min: number; max: number }): number {
    const value = isScalar(node) ? node.value : undefined;
    const read = parseQuantity(String(value));
    if (read !== undefined && read >= min && read <= max) return read;
    this.wrong(node, `${what} is not a size such as 500M or 64Gi, from ${min} to ${max} bytes`);
    return min;
  }
}

/** Of the first character of a node. */
function offsetOf(node: unknown): number {
  return (node as Partial<Node> | undefined)?.range?.[0] ?? 0;
}
