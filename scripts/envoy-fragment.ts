/** Pure: merges a fragment into a bootstrap. */
import { isMap, isScalar, isSeq, type Node, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml';

/** The style of the bootstraps in this repository: strings are never folded, and short lists have no padding. */
export const yamlStyle = { lineWidth: 0, flowCollectionPadding: false } as const;

/**
 * Merges maps by key, and list entries by name or, without a name, by index. `$patch: add` makes a new entry. Keeps comments.
 * Throws an Error when the bootstrap has no such entry.
 */
export function mergeFragment(bootstrap: string, fragment: string): string {
  const document = parseDocument(bootstrap);
  const added = parseDocument(fragment);
  const [fault] = [...document.errors, ...added.errors];
  if (fault !== undefined) throw fault;
  merge(document.contents as Node, added.contents as Node, 'the bootstrap');
  return document.toString(yamlStyle);
}

function merge(into: Node, added: Node, where: string): void {
  if (isMap(into) && isMap(added)) mergeMaps(into, added, where);
  else if (isSeq(into) && isSeq(added)) mergeLists(into, added, where);
  else if (isScalar(into) && isScalar(added)) into.value = added.value;
  else throw new Error(`${where} has another shape than the fragment`);
}

function mergeMaps(into: YAMLMap, added: YAMLMap, where: string): void {
  for (const pair of added.items) {
    const name = String(pair.key);
    const known = into.get(name, true) as Node | undefined;
    if (known === undefined) into.add(pair);
    else if (name !== 'name') merge(known, pair.value as Node, `${where} under ${name}`);
  }
}

function mergeLists(into: YAMLSeq, added: YAMLSeq, where: string): void {
  for (const [index, entry] of added.items.entries()) {
    const name = isMap(entry) ? entry.get('name') : undefined;
    const known = name === undefined ? into.items[index] : into.items.find((item) => isMap(item) && item.get('name') === name);
    if (isMap(entry) && entry.get('$patch') === 'add') {
      entry.delete('$patch');
      into.add(entry);
      continue;
    }
    if (known === undefined) throw new Error(`${where} has no entry ${name ?? index}`);
    merge(known as Node, entry as Node, `${where}, ${name ?? index}`);
  }
}
