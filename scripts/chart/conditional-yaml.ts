/**
 * Pure: writes one YAML value that depends on flags as a template of Helm. The cases are what kustomize builds for each flag; where they
 * agree, the template has one value, and where they differ, it asks for the flags.
 */

/**
 * A value that the user of the chart gives, in the place of a value of kustomize.
 *
 * * `inline`: text of a template in the line of its key.
 * * `block`: text of a template below its key, or further entries of a list. `nindent 0` in it becomes the indentation of this place.
 * * `literal`: the same, as a block scalar.
 * * `optional`: the path of a value. Without it, the key is absent.
 */
export class Template {
  readonly kind: 'inline' | 'block' | 'literal' | 'optional';
  readonly text: string;

  constructor(kind: Template['kind'], text: string) {
    this.kind = kind;
    this.text = text;
  }
}

export type Value = string | number | boolean | null | Template | readonly Value[] | { readonly [key: string]: Value };

/** The value under a flag; undefined where the flag removes it. The first case of an object has no flag. */
export interface Case {
  /** A condition of Helm, such as `$c.tls`. */
  readonly flag: string | undefined;
  /** The flag that this one needs, and from whose case it differs. It comes before. Without it, the case differs from the first one. */
  readonly parent?: string | undefined;
  readonly value: Value | undefined;
}

type Present = Case & { readonly value: Value };

/** Lines around an entry, and the changes of its text: for an entry that represents many. */
export interface Repeat {
  readonly begin: string;
  readonly change: (line: string) => string;
}

export interface EmitOptions {
  /** For an entry of a list that a flag adds, by its key. `skip` leaves it out. */
  readonly repeat: (key: string) => Repeat | 'skip' | undefined;
}

/** The lines of an object that some flags remove. */
export function emitObject(cases: readonly Case[], options: EmitOptions): string[] {
  const lines = guarded(cases, (present) => emit(present, options));
  return joinGuards(lines);
}

/** Joins neighbours with the same condition. */
function joinGuards(lines: readonly string[]): string[] {
  const joined: string[] = [];
  const open: string[] = [];
  let closed: string | undefined;
  for (const line of lines) {
    if (closed !== undefined && line === closed) {
      joined.pop();
      open.push(closed);
    } else {
      joined.push(line);
      if (/^\{\{- (if|range|with) /.test(line)) open.push(line);
    }
    closed = line === '{{- end }}' ? open.pop() : undefined;
    if (closed?.startsWith('{{- if ') !== true) closed = undefined;
  }
  return joined;
}

/** The lines of a value, without indentation. */
function emit(cases: readonly Case[], options: EmitOptions): string[] {
  const present = cases.filter((one): one is Present => one.value !== undefined);
  const [first] = present;
  if (first === undefined) return [];
  if (present.every(({ value }) => isSame(value, first.value))) return emitPlain(first.value);
  if (present.every(({ value }) => isMap(value))) return emitMap(present, options);
  if (present.every(({ value }) => Array.isArray(value) && value.length > 0)) return emitList(present, options);
  return emitChoice(first, changesOf(present));
}

function emitMap(cases: readonly Present[], options: EmitOptions): string[] {
  const maps = cases.map((one) => ({ ...one, value: one.value as Readonly<Record<string, Value>> }));
  return mergedOrder(maps.map(({ value }) => Object.keys(value))).flatMap((key) => {
    const entries = maps.map((one) => ({ ...one, value: one.value[key] }));
    return guarded(entries, (inner) => emitEntry(key, inner, options));
  });
}

function emitEntry(key: string, cases: readonly Case[], options: EmitOptions): string[] {
  const name = /^[\w./-]+$/.test(key) ? key : JSON.stringify(key);
  const [value] = cases.map((one) => one.value);
  const lines = emit(cases, options);
  if (value instanceof Template) {
    if (value.kind === 'inline') return [`${name}: ${value.text}`];
    if (value.kind === 'optional') return [`{{- with $.Values.${value.text} }}`, `${name}:`, '{{- toYaml . | nindent 2 }}', '{{- end }}'];
    return [`${name}:${value.kind === 'literal' ? ' |' : ''}`, ...indent(lines)];
  }
  return lines.length === 1 && !cases.some((one) => isBlock(one.value)) ? [`${name}: ${lines[0]}`] : [`${name}:`, ...indent(lines)];
}

function emitList(cases: readonly Present[], options: EmitOptions): string[] {
  const keyOf = listKey(cases.map(({ value }) => value as readonly Value[]));
  const lists = cases.map((one) => ({
    ...one,
    value: new Map((one.value as readonly Value[]).map((item, at) => [keyOf(item, at), item])),
  }));
  return mergedOrder(lists.map(({ value }) => [...value.keys()])).flatMap((key) => {
    const items = lists.map((one) => ({ ...one, value: one.value.get(key) }));
    const write = (inner: readonly Case[]): string[] => listItem(emit(inner, options));
    return guarded(items, items[0]?.value === undefined ? (inner) => repeated(key, write(inner), options) : write);
  });
}

function repeated(key: string, lines: string[], { repeat }: EmitOptions): string[] {
  const found = repeat(key);
  if (found === 'skip') return [];
  return found === undefined ? lines : [found.begin, ...lines.map(found.change), '{{- end }}'];
}

/** Asks for the flags that add an entry or remove it. */
function guarded(cases: readonly Case[], write: (cases: readonly Case[]) => string[]): string[] {
  const lines = write(cases.filter(({ value }) => value !== undefined));
  const condition = presence(cases);
  return lines.length === 0 || condition === 'true' ? lines : [`{{- if ${condition} }}`, ...lines, '{{- end }}'];
}

/** The condition under which an entry exists. A later case decides before an earlier one. */
function presence(cases: readonly Case[]): string {
  const isThere = cases.map((one) => ({ ...one, value: one.value === undefined ? undefined : true }));
  return changesOf(isThere).reduce(
    (condition, { flag = '', value }) => {
      if (value === undefined) return condition === 'true' ? `not ${nested(flag)}` : `and (not ${nested(flag)}) ${nested(condition)}`;
      return condition === 'false' ? flag : `or ${nested(flag)} ${nested(condition)}`;
    },
    String(isThere[0]?.flag === undefined && isThere[0]?.value === true),
  );
}

/** The cases that differ from the case of their parent. */
function changesOf<C extends Case>(cases: readonly C[]): C[] {
  const under = (flag: string | undefined): Value | undefined => cases.find((one) => one.flag === flag)?.value;
  return cases.filter(({ flag, parent, value }) => flag !== undefined && !isSame(value, under(parent)));
}

function emitChoice(first: Present, changes: readonly Present[]): string[] {
  const branches = changes
    .filter(({ flag }) => flag !== first.flag)
    .reverse()
    .flatMap(({ flag, value }, at) => [`{{- ${at === 0 ? 'if' : 'else if'} ${flag} }}`, ...emitPlain(value)]);
  return [...branches, '{{- else }}', ...emitPlain(first.value), '{{- end }}'];
}

const plain: EmitOptions = { repeat: () => undefined };

function emitPlain(value: Value): string[] {
  if (value instanceof Template) return value.text.split('\n');
  if (Array.isArray(value)) {
    const items = value.flatMap((item: Value) => (item instanceof Template ? emitPlain(item) : listItem(emitPlain(item))));
    return items.length === 0 ? ['[]'] : items;
  }
  if (isMap(value)) {
    const entries = Object.entries(value as Readonly<Record<string, Value>>);
    return entries.length === 0 ? ['{}'] : entries.flatMap(([key, entry]) => emitEntry(key, [{ flag: undefined, value: entry }], plain));
  }
  return [scalar(value as string | number | boolean | null)];
}

/** A string with the marks of templates is text, and must stay so. */
function scalar(value: string | number | boolean | null): string {
  if (typeof value === 'string' && /^[A-Za-z][\w./-]*$/.test(value) && !/^(true|false|yes|no|on|off|null|y|n)$/i.test(value)) return value;
  return JSON.stringify(value).replace(/\{\{|\}\}/g, (mark) => `{{ "${mark}" }}`);
}

function listItem(lines: readonly string[]): string[] {
  const first = lines.findIndex((line) => !isMark(line));
  return lines.map((line, at) => (at === first ? `- ${line}` : indentLine(line)));
}

function indent(lines: readonly string[]): string[] {
  return lines.map(indentLine);
}

function indentLine(line: string): string {
  return isMark(line) ? line.replace(/nindent (\d+)/, (_whole, width: string) => `nindent ${Number(width) + 2}`) : `  ${line}`;
}

/** A line that is no text of the result. */
function isMark(line: string): boolean {
  return line.startsWith('{{-');
}

const keyFields = ['name', 'mountPath', 'port'] as const;

/** What names the items of a list: one of their fields if it is unique in each list, otherwise their position. */
function listKey(lists: readonly (readonly Value[])[]): (item: Value, at: number) => string {
  const field = keyFields.find((name) =>
    lists.every((list) => {
      const keys = list.map((item) => (isMap(item) ? (item as Readonly<Record<string, Value>>)[name] : undefined));
      return keys.every((key) => key !== undefined && !(key instanceof Template)) && new Set(keys).size === keys.length;
    }),
  );
  return (item, at) => (field === undefined ? String(at) : String((item as Readonly<Record<string, Value>>)[field]));
}

/** The keys of all cases. A key that only a later case has comes before the same key as there. */
function mergedOrder(orders: readonly (readonly string[])[]): string[] {
  const [merged = [], ...others] = orders.map((order) => [...order]);
  for (const order of others) {
    order.forEach((key, at) => {
      if (merged.includes(key)) return;
      const next = order.slice(at + 1).find((later) => merged.includes(later));
      merged.splice(next === undefined ? merged.length : merged.indexOf(next), 0, key);
    });
  }
  return merged;
}

function nested(condition: string): string {
  return condition.includes(' ') ? `(${condition})` : condition;
}

function isMap(value: Value): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Template);
}

function isBlock(value: Value | undefined): boolean {
  return typeof value === 'object' && value !== null && !(value instanceof Template) && Object.keys(value).length > 0;
}

function isSame(a: Value | undefined, b: Value | undefined): boolean {
  return textOf(a) === textOf(b);
}

function textOf(value: Value | undefined): string | undefined {
  return JSON.stringify(value, (_key, entry: unknown) => (entry instanceof Template ? { template: entry.text } : entry));
}
