/** Pure: a bootstrap with a fragment of one merged into it. */
import { isMap, isSeq, type Node, parseDocument, type YAMLMap, type YAMLSeq } from 'yaml';

/** Maps are merged, entries of lists by their name or, where they have none, by their place; comments stay. Throws an Error where the bootstrap has no such entry. */
export function mergeFragment(bootstrap: string, fragment: string): string {
  const document = parseDocument(bootstrap);
  const added = parseDocument(fragment);
  merge(document.contents as Node, added.contents as Node, 'the bootstrap');
  return document.toString({ lineWidth: 0 });
}

function merge(into: Node, added: Node, where: string): void {
  if (isMap(into) && isMap(added)) mergeMaps(into, added, where);
  else if (isSeq(into) && isSeq(added)) mergeLists(into, added, where);
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
    if (known === undefined) throw new Error(`${where} has no entry ${name ?? index}`);
    merge(known as Node, entry as Node, `${where}, ${name ?? index}`);
  }
}
