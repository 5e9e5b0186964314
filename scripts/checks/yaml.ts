/** Checks every YAML file of the repository: it parses, it is in block style, and its lines have at most 120 characters. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isScalar, LineCounter, parseAllDocuments, visit } from 'yaml';

const maxLineLength = 120;
/** A comment, a list entry or a value without a space: no line break can shorten it and keep the parsed value. */
const unbreakable = /^ *(?:(?:- )*(?:\S+: )?|# )\S+$/;

/** Pure. One line for each breach in the text of a YAML file. */
export function yamlBreaches(text: string): string[] {
  const long = text.split('\n').flatMap((line, index) => {
    if (line.length <= maxLineLength || unbreakable.test(line)) return [];
    return [`line ${index + 1}: has ${line.length} characters; it must have at most ${maxLineLength}`];
  });
  return [...long, ...documentBreaches(text, 0)];
}

/** `linesBefore` is the number of lines of the file above `text`. */
function documentBreaches(text: string, linesBefore: number): string[] {
  const counter = new LineCounter();
  const lineAt = (offset: number | undefined): number => linesBefore + counter.linePos(offset ?? 0).line;
  const found: string[] = [];
  for (const document of parseAllDocuments(text, { lineCounter: counter, prettyErrors: false })) {
    for (const { message, pos } of document.errors) found.push(`line ${lineAt(pos[0])}: is not YAML: ${message}`);
    visit(document, {
      Map: (_, { flow, items, range }) => {
        if (flow && items.length > 0) found.push(`line ${lineAt(range?.[0])}: has a flow mapping; write it in block style`);
      },
      // The patches of a kustomization are YAML in a string.
      Pair: (_, { key, value }) => {
        if (!isScalar(key) || key.value !== 'patch' || !isScalar(value) || value.type !== 'BLOCK_LITERAL') return;
        found.push(...documentBreaches(String(value.value), lineAt(value.range?.[0])));
      },
    });
  }
  return found;
}

if (import.meta.main) {
  const root = path.resolve(import.meta.dirname, '..', '..');
  const listed = execFileSync('git', ['ls-files', '-z', '*.yaml', '*.yml'], { cwd: root, encoding: 'utf8' });
  for (const name of listed.split('\0')) {
    if (name === '' || !existsSync(path.join(root, name))) continue;
    for (const breach of yamlBreaches(readFileSync(path.join(root, name), 'utf8'))) {
      console.error(`${name}: ${breach}`);
      process.exitCode = 1;
    }
  }
}
