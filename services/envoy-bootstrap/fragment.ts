/** Pure: merges fragments into an Envoy bootstrap. Envoy's own merge of two files appends to lists instead. */
import { isMap, isScalar, isSeq, type Node, type Pair, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml';

/** Strings are never folded, and short lists have no padding. */
const yamlStyle = { lineWidth: 0, flowCollectionPadding: false } as const;
/** A key of a map in a fragment: `add` makes a new entry of a list, `replace` drops the former content of a map. */
const directiveKey = '$patch';
const withPrefix = 'fragment-with-';

export interface Fragment {
  /** For error messages. */
  readonly name: string;
  readonly text: string;
}

/** The files of a folder that are merged, in this order. `fragment-with-NAME.yaml` needs `fragment-NAME.yaml`, which it changes. */
export function fragmentNames(files: readonly string[]): string[] {
  const isUsed = (file: string): boolean => !file.startsWith(withPrefix) || files.includes(`fragment-${file.slice(withPrefix.length)}`);
  return files.filter((file) => /^fragment-.*\.yaml$/.test(file) && isUsed(file)).sort(byNeed);
}

/** By name. The files that change another fragment are last. */
function byNeed(one: string, other: string): number {
  return Number(one.startsWith(withPrefix)) - Number(other.startsWith(withPrefix)) || (one < other ? -1 : 1);
}

/**
 * Merges maps by key, and list entries by name or, without a name, by index. A scalar replaces a scalar. Keeps comments.
 * Throws an Error that names the fragment when the bootstrap has no such entry.
 */
export function mergeFragments(bootstrap: string, fragments: readonly Fragment[]): string {
  const document = parse('the bootstrap', bootstrap);
  for (const { name, text } of fragments) {
    const added = parse(name, text);
    if (added.contents !== null) merge(document.contents as Node, added.contents, name);
  }
  return document.toString(yamlStyle);
}

function parse(name: string, text: string): ReturnType<typeof parseDocument> {
  const document = parseDocument(text);
  const [fault] = document.errors;
  if (fault !== undefined) throw new Error(`${name} is not valid YAML: ${fault.message}`, { cause: fault });
  return document;
}

function merge(into: Node, added: Node, where: string): void {
  if (isMap(into) && isMap(added)) mergeMaps(into, added, where);
  else if (isSeq(into) && isSeq(added)) mergeLists(into, added, where);
  else if (isScalar(into) && isScalar(added)) into.value = added.value;
  else throw new Error(`${where}: the bootstrap has another kind of value here`);
}

function mergeMaps(into: YAMLMap, added: YAMLMap, where: string): void {
  const directive = takeDirective(added);
  if (directive === 'replace') into.items = [];
  else if (directive !== undefined)
    throw new Error(`${where}: ${directiveKey} is "${directive}"; it must be replace, or add in a new entry`);
  for (const pair of added.items as Pair<Node, Node>[]) {
    const name = String(pair.key);
    const known = into.get(name, true) as Node | undefined;
    if (known === undefined) into.add(pair);
    else merge(known, pair.value as Node, `${where}: ${name}`);
  }
}

function mergeLists(into: YAMLSeq, added: YAMLSeq, where: string): void {
  for (const [index, entry] of (added.items as Node[]).entries()) {
    const name = isMap(entry) ? entry.get('name') : undefined;
    const known = name === undefined ? into.items[index] : into.items.find((item) => isMap(item) && item.get('name') === name);
    const isNew = isMap(entry) && entry.get(directiveKey) === 'add';
    const label = `${where}, ${name ?? index}`;
    if (isNew && name !== undefined && known !== undefined) throw new Error(`${label}: the bootstrap has this entry already`);
    if (!isNew && known === undefined) throw new Error(`${label}: the bootstrap has no such entry`);
    if (isNew) {
      takeDirective(entry);
      into.add(entry);
    } else merge(known as Node, entry, label);
  }
}

function takeDirective(map: YAMLMap): string | undefined {
  const directive = map.get(directiveKey);
  map.delete(directiveKey);
  return directive === undefined ? undefined : String(directive);
}
