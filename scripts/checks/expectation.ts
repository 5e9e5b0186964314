/** Pure: compares values of a parsed YAML document with a table of expected values. */
import { isDeepStrictEqual } from 'node:util';

/**
 * `path` is such as `clusters[eds].endpoints[0].port`. Brackets contain an index, the `name` of a list entry, or a key with dots;
 * `[*]` means every entry. `expected` is a value or a `Condition`. `find` computes the value when no path leads to it.
 */
export type Row = readonly [
  path: string,
  expected: unknown,
  consequence: string,
  find?: ((document: unknown, path: string) => unknown) | undefined,
];

interface Judgement {
  /** Completes "must be …". */
  readonly text: (operand: string) => string;
  readonly holds: (found: unknown, operand: unknown, document: unknown) => boolean;
}

const judgements = {
  below: { text: (limit) => `below ${limit}`, holds: (found, limit) => seconds(found) < seconds(limit) },
  belowValueOf: {
    text: (path) => `below the value of ${path}`,
    holds: (found, path, document) => seconds(found) < seconds(valueAt(document, String(path))),
  },
  atMost: { text: (limit) => `at most ${limit}`, holds: (found, limit) => seconds(found) <= seconds(limit) },
  endingIn: { text: (end) => `a name that ends in ${end}`, holds: (found, end) => String(found).endsWith(String(end)) },
  listWith: {
    text: (entry) => `a list with ${entry}`,
    holds: (found, entry) => Array.isArray(found) && found.some((each) => isDeepStrictEqual(each, entry)),
  },
  allowing: {
    text: (path) => `a list that allows ${path}`,
    holds: (found, path) => Array.isArray(found) && found.some((matcher) => matches(matcher, String(path))),
  },
  denying: {
    text: (path) => `a list, not empty, that does not allow ${path}`,
    holds: (found, path) => Array.isArray(found) && found.length > 0 && !found.some((matcher) => matches(matcher, String(path))),
  },
} as const satisfies Record<string, Judgement>;

/** An expectation other than equality. */
export class Condition {
  readonly kind: keyof typeof judgements;
  readonly operand: unknown;

  constructor(kind: keyof typeof judgements, operand: unknown) {
    this.kind = kind;
    this.operand = operand;
  }
}

/** One line for each row that the document breaks. */
export function breaches(document: unknown, rows: readonly Row[]): string[] {
  return rows.flatMap(([path, expected, consequence, find = valueAt]) => {
    const found = find(document, path);
    const { holds, must } = judge(expected, found, document);
    return holds ? [] : [`${path}: is ${show(found)}; must be ${must}: ${consequence}`];
  });
}

/** The value at a path, or undefined. */
export function valueAt(document: unknown, path: string): unknown {
  return walk(document, steps(path));
}

/** The keys, names and indexes of a path. */
export function steps(path: string): string[] {
  return [...path.matchAll(/\[([^\]]*)\]|[^.[\]]+/g)].map(([whole, inner]) => inner ?? whole);
}

/** The seconds of a duration of Envoy such as `0.5s`; NaN for anything else. */
export function seconds(duration: unknown): number {
  return Number(/^([\d.]+)s$/.exec(String(duration))?.[1]);
}

function judge(expected: unknown, found: unknown, document: unknown): { holds: boolean; must: string } {
  if (!(expected instanceof Condition)) return { holds: isDeepStrictEqual(found, expected), must: show(expected) };
  const { kind, operand } = expected;
  const { text, holds }: Judgement = judgements[kind];
  return { holds: holds(found, operand, document), must: text(typeof operand === 'string' ? operand : show(operand)) };
}

function walk(value: unknown, [name, ...rest]: readonly string[]): unknown {
  if (name === undefined) return value;
  if (Array.isArray(value)) {
    if (name === '*') return value.map((entry) => walk(entry, rest));
    return walk(/^\d+$/.test(name) ? value[Number(name)] : value.find((entry) => entry?.name === name), rest);
  }
  if (typeof value !== 'object' || value === null) return undefined;
  return walk((value as Readonly<Record<string, unknown>>)[name], rest);
}

/** Whether an entry of Envoy's `allow_paths` allows a path of the admin interface. */
function matches(matcher: { exact?: string; prefix?: string } | null, path: string): boolean {
  return matcher?.exact === path || (matcher?.prefix !== undefined && path.startsWith(matcher.prefix));
}

function show(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value);
}
