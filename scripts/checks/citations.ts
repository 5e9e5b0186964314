/** Checks that the pages, source files and anchors that the repository's files mention exist in the repository. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface Repository {
  /** Paths of all files, relative to the root. */
  readonly files: ReadonlySet<string>;
  /** The text of a file of the repository. */
  read(file: string): string;
}

/** Bare names of pages may be in these folders. */
const pageFolders = ['docs', 'docs/decisions'];
/** A name that CONTRIBUTING.md forbids, and a placeholder of the template for decisions. */
const exampleNames = new Set(['utils.ts', 'path/of/the/file.ts']);
/** Also describes files of earlier releases. */
const changelog = 'CHANGELOG.md';
/** Contains breaches as examples. */
const ownTest = 'test/checks/citations.test.ts';
/** The lookbehind skips the rest of a glob, of a template, and of a path that begins with a placeholder. */
const pageName = /(?<![\w/.*}>$…-])(?:\.{1,2}\/)*[\w-][\w./-]*\.md\b/g;
const sourceName = /(?<![\w/.*}>$…-])(?:\.{1,2}\/)*[\w-][\w./-]*\.(?:ts|mjs|lua)\b/g;
const outside = [/(?<![\w-])facts\/[\w.-]*/g, /\bissue #?\d+/gi];
const url = /\bhttps?:\/\/[^\s)>"'`]+/g;
const linkTarget = /\]\([^()\s]+\)/g;

/** Pure. One line for each breach in the text of a file. */
export function citationBreaches(name: string, text: string, repository: Repository): string[] {
  const blank = (part: string): string => ' '.repeat(part.length);
  const plain = text.replace(url, blank).replace(linkTarget, blank);
  const found = outside.flatMap((pattern) =>
    matchesIn(plain, pattern, ([words]) => `mentions ${words}, which is outside of the repository`),
  );
  const inside = outside.reduce((rest, pattern) => rest.replace(pattern, blank), plain);
  found.push(
    ...matchesIn(inside, pageName, ([page]) => (hasPage(name, page, repository) ? undefined : `mentions ${page}, which does not exist`)),
    ...matchesIn(blankAllBut(plain, citingParts(name)), sourceName, ([file]) =>
      name === changelog || hasSource(file, repository) ? undefined : `mentions ${file}, which does not exist`,
    ),
  );
  if (name.endsWith('.md')) found.push(...linkBreaches(name, withoutCodeBlocks(text), repository));
  return found;
}

function linkBreaches(name: string, text: string, repository: Repository): string[] {
  return matchesIn(text, /\]\(([^()\s]+)\)|^\[[^\]]+\]: +(\S+)/gm, ([, inline, reference]) => {
    const link = inline ?? reference ?? '';
    if (/^[a-z]+:/i.test(link)) return undefined;
    const [file = '', anchor] = link.split('#', 2);
    const target = file === '' ? name : path.posix.join(path.posix.dirname(name), file);
    if (!isFileOrFolder(target, repository)) return `links ${link}, but ${target} does not exist`;
    if (anchor === undefined || anchorsOf(repository.read(target)).has(anchor)) return undefined;
    return `links ${link}, but ${target} has no such heading`;
  });
}

/** The anchors that GitHub gives to the headings of a page. */
function anchorsOf(page: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of withoutCodeBlocks(page).matchAll(/^#{1,6} +(.*?) *$/gm)) {
    const title = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const anchor = title.replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-');
    let unique = anchor;
    for (let copy = 1; anchors.has(unique); copy++) unique = `${anchor}-${copy}`;
    anchors.add(unique);
  }
  return anchors;
}

function hasPage(name: string, page: string, { files }: Repository): boolean {
  const isBare = !page.includes('/');
  const places = ['', path.posix.dirname(name), ...(isBare ? pageFolders : [])];
  return places.some((folder) => files.has(path.posix.join(folder, page)));
}

function hasSource(file: string, { files }: Repository): boolean {
  const end = file.replace(/^(?:\.{1,2}\/)+/, '');
  if (exampleNames.has(end) || files.has(end)) return true;
  for (const known of files) if (known.endsWith(`/${end}`)) return true;
  return false;
}

function isFileOrFolder(target: string, { files }: Repository): boolean {
  const folder = target.replace(/\/$/, '');
  if (folder === '.' || files.has(folder)) return true;
  for (const known of files) if (known.startsWith(`${folder}/`)) return true;
  return false;
}

/** Where a file mentions others: in the comments of code, and in the code spans of a page. */
function citingParts(name: string): RegExp {
  if (name.endsWith('.md')) return /`[^`\n]+`/g;
  if (name.endsWith('.yaml')) return /(?<=^|\s)#.*$/gm;
  return name.endsWith('.lua') ? /--.*$/gm : /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm;
}

function blankAllBut(text: string, parts: RegExp): string {
  let kept = '';
  for (const { index, 0: part } of text.matchAll(parts)) kept += text.slice(kept.length, index).replace(/[^\n]/g, ' ') + part;
  return kept;
}

function withoutCodeBlocks(page: string): string {
  return page.replace(/^ *```[\s\S]*?^ *```/gm, (block) => block.replace(/[^\n]/g, ' '));
}

/** A line for each match for which `complain` returns a text. */
function matchesIn(text: string, pattern: RegExp, complain: (match: RegExpExecArray) => string | undefined): string[] {
  return [...text.matchAll(pattern)].flatMap((match) => {
    const complaint = complain(match);
    return complaint === undefined ? [] : [`line ${text.slice(0, match.index).split('\n').length}: ${complaint}`];
  });
}

if (import.meta.main) {
  const root = path.resolve(import.meta.dirname, '..', '..');
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
  const files = new Set(listed.split('\0').filter((name) => name !== '' && existsSync(path.join(root, name))));
  const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
  for (const name of files) {
    if (!/\.(?:ts|mjs|lua|yaml|md)$/.test(name) || name.startsWith('proto/generated/') || name === ownTest) continue;
    for (const breach of citationBreaches(name, read(name), { files, read })) {
      console.error(`${name}: ${breach}`);
      process.exitCode = 1;
    }
  }
}
