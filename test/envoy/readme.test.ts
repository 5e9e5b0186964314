import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { isMap, parseDocument, visit } from 'yaml';
import { readReadme } from '../support/readme.ts';

test('the README lists every code of Envoy’s own answers, and no other', async (t) => {
  const bootstrap = await readFile(path.resolve(import.meta.dirname, '../../envoy/bootstrap.yaml'), 'utf8');
  const known = new Set<unknown>();
  visit(parseDocument(bootstrap), {
    Pair: (_, { key, value }) => {
      if (String(key) === 'json_format' && isMap(value) && value.has('code')) known.add(value.get('code'));
    },
  });
  const readme = readReadme('envoy');
  const from = readme.indexOf('## Answers of Envoy');
  const listed = [...readme.slice(from, readme.indexOf('\n## ', from + 1)).matchAll(/^\| [\w ]+ \| `([\w-]+)` \|/gm)].map(
    (match) => match[1],
  );
  t.true(known.size > 3);
  t.deepEqual([...new Set(listed)].filter((code) => code !== 'code').sort(), [...known].sort());
});
