import test from 'ava';
import { yamlBreaches } from '../../scripts/checks/yaml.ts';

const word = 'x'.repeat(130);

for (const [title, text, breach] of [
  ['a flow mapping', 'a: 1\nb: { c: 1 }\n', 'line 2: has a flow mapping; write it in block style'],
  ['a flow mapping in a list', 'a:\n  - b\n  - [{ c: 1 }]\n', 'line 3: has a flow mapping; write it in block style'],
  ['a flow mapping in the second document', 'a: 1\n---\nb: { c: 1 }\n', 'line 3: has a flow mapping; write it in block style'],
  [
    'a flow mapping in a patch',
    'patches:\n  - patch: |-\n      # why\n      - { op: remove, path: /a }\n',
    'line 4: has a flow mapping; write it in block style',
  ],
  ['a patch that does not parse', 'patch: |\n  a: 1\n  a: 2\n', 'line 3: is not YAML: Map keys must be unique'],
  ['a file that does not parse', 'a: 1\na: 2\n', 'line 2: is not YAML: Map keys must be unique'],
  ['a long line', `a: 1\nb: ${word} ${word}\n`, 'line 2: has 264 characters; it must have at most 120'],
  ['a long comment', `a: 1\n# ${word} ${word}\n`, 'line 2: has 263 characters; it must have at most 120'],
  ['a comment behind a long value', `a: ${word} # why\n`, 'line 1: has 139 characters; it must have at most 120'],
] as const) {
  test(`${title} is a breach with its line`, (t) => {
    t.deepEqual(yamlBreaches(text), [breach]);
  });
}

for (const [title, text] of [
  ['an empty flow mapping', 'a: {}\n'],
  ['a flow sequence of scalars', 'verbs: [get, list]\n'],
  ['braces in a string', 'a: "{ b: 1 }"\nb: |\n  { c: 1 }\n'],
  ['a line of 120 characters', `a: ${'x y'.padEnd(117, 'z')}\n`],
  ['a long value without a space', `- "@type": ${word}\n`],
  ['a long list entry without a space', `- - ${word}\n`],
  ['a long address in a comment', `# https://${word}\na: 1\n`],
  ['a long line without a space in a block', `a: >-\n  ${word}\n  ${word}\n`],
] as const) {
  test(`${title} is no breach`, (t) => {
    t.deepEqual(yamlBreaches(text), []);
  });
}
