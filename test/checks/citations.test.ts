import test from 'ava';
import { citationBreaches, type Repository } from '../../scripts/checks/citations.ts';

const pages: Readonly<Record<string, string>> = {
  'README.md': '# kura\n\n## Try it, `twice`\n\n## Again\n\n## Again\n\n```sh\n# not a heading\n```\n',
  'docs/operate.md': '## Replace a [shard](use.md)\n',
  'docs/decisions/001-maglev.md': '',
  'services/cache/main.ts': '',
  'services/cache/README.md': '',
  'envoy/grants.lua': '',
};
const repository: Repository = { files: new Set(Object.keys(pages)), read: (file) => pages[file] ?? '' };

for (const [title, name, text, breach] of [
  ['a page that does not exist', 'k8s/a.yaml', '# a\n# see design.md\n', 'line 2: mentions design.md, which does not exist'],
  ['a page in another folder', 'envoy/a.lua', '-- docs/use.md\n', 'line 1: mentions docs/use.md, which does not exist'],
  ['a page of the research notes', 'a.ts', '// (facts/envoy.md)', 'line 1: mentions facts/envoy.md, which is outside of the repository'],
  ['the number of an issue', 'a.mjs', 'x();\n/** Issue 12 */', 'line 2: mentions Issue 12, which is outside of the repository'],
  ['a source file in a comment', 'a.ts', '/**\n * plain-server.ts\n */', 'line 2: mentions plain-server.ts, which does not exist'],
  ['a source file of another folder', 'a.ts', 'x(); // cli/main.ts', 'line 1: mentions cli/main.ts, which does not exist'],
  ['a source file in a code span', 'README.md', 'The `deny.lua`.', 'line 1: mentions deny.lua, which does not exist'],
  ['a link to a missing file', 'docs/use.md', '[b](../b/)', 'line 1: links ../b/, but b/ does not exist'],
  ['a link to a missing page', 'docs/operate.md', '\n[b](b.md#c)', 'line 2: links b.md#c, but docs/b.md does not exist'],
  ['a reference to a missing page', 'README.md', '[b]: b.png', 'line 1: links b.png, but b.png does not exist'],
  [
    'a missing heading',
    'docs/use.md',
    '[a](../README.md#nowhere)',
    'line 1: links ../README.md#nowhere, but README.md has no such heading',
  ],
  ['a heading in a code block', 'README.md', '[a](#not-a-heading)', 'line 1: links #not-a-heading, but README.md has no such heading'],
] as const) {
  test(`${title} is a breach with its line`, (t) => {
    t.deepEqual(citationBreaches(name, text, repository), [breach]);
  });
}

for (const [title, name, text] of [
  ['a page relative to the root', 'envoy/a.yaml', '# services/cache/README.md'],
  ['a page relative to the folder', 'services/cache/a.ts', "read('README.md')"],
  ['the bare name of a page of the docs', 'a.ts', '// operate.md and 001-maglev.md'],
  ['a public address', 'a.ts', '// https://github.com/a/b/blob/main/facts/c.md and https://github.com/a/b/issues/4'],
  ['a glob or a template', 'a.ts', '// docs/*.md, test/**/*.test.ts, <service>/config.ts, <page>.md'],
  ['a source file by the end of its path', 'a.ts', '// grants.lua, cache/main.ts and ../cache/main.ts'],
  ['a string with a source file', 'a.ts', "import './made-later.ts';"],
  ['a forbidden name as an example', 'README.md', 'No `utils.ts`.'],
  ['an earlier file in the changelog', 'CHANGELOG.md', 'Removed `drain.ts`.'],
  [
    'a link to a file, a folder or a heading',
    'docs/use.md',
    '[a](operate.md#replace-a-shard) [b](../services/cache) [c](../README.md#try-it-twice)',
  ],
  ['a link to the second of two equal headings', 'README.md', '[a](#again) [b](#again-1)'],
  ['a link in a code block', 'README.md', '```md\n[a](b.png)\n```'],
] as const) {
  test(`${title} is no breach`, (t) => {
    t.deepEqual(citationBreaches(name, text, repository), []);
  });
}
