/** The fragments of the components, merged into the bootstrap by services/envoy-bootstrap. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parse } from 'yaml';
import { mergeFragments } from '../../services/envoy-bootstrap/fragment.ts';
import { runProgram } from '../support/program.ts';
import { temporaryFolder } from '../support/service.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const program = 'services/envoy-bootstrap/main.ts';
const bootstrap = `
static_resources:
  clusters:
    - name: a
      type: STATIC # kept
      address: { pipe: /run/a }
  listeners:
    - name: b
      filter_chains: [{}]
`;

function merged(...texts: readonly string[]): string {
  return mergeFragments(
    bootstrap,
    texts.map((text, index) => ({ name: `fragment-${index}.yaml`, text })),
  );
}

test('maps are merged by key, lists by name or place, and scalars are replaced', (t) => {
  const text = merged(
    'static_resources: { clusters: [{ name: a, type: EDS, x: 1 }], listeners: [{ name: b, filter_chains: [{ y: 2 }] }] }',
    'static_resources: { clusters: [{ name: a, x: 3 }] }',
  );
  t.deepEqual(parse(text), {
    static_resources: {
      clusters: [{ name: 'a', type: 'EDS', x: 3, address: { pipe: '/run/a' } }],
      listeners: [{ name: 'b', filter_chains: [{ y: 2 }] }],
    },
  });
  t.regex(text, /type: EDS # kept/);
});

test('$patch replaces a map and adds an entry', (t) => {
  const text = merged('static_resources: { clusters: [{ name: a, address: { $patch: replace, port: 1 } }, { $patch: add, name: c }] }');
  t.like(parse(text), { static_resources: { clusters: [{ name: 'a', type: 'STATIC', address: { port: 1 } }, { name: 'c' }] } });
  t.is(parse(text).static_resources.clusters[0].address.pipe, undefined);
});

for (const [fragment, message] of [
  ['{ clusters: [{ name: c, x: 1 }] }', 'fragment-0.yaml: static_resources: clusters, c: the bootstrap has no such entry'],
  ['{ clusters: [{ $patch: add, name: a }] }', 'fragment-0.yaml: static_resources: clusters, a: the bootstrap has this entry already'],
  ['{ clusters: { name: a } }', 'fragment-0.yaml: static_resources: clusters: the bootstrap has another kind of value here'],
  [
    '{ clusters: [{ name: a, $patch: remove }] }',
    'fragment-0.yaml: static_resources: clusters, a: $patch is "remove"; it must be replace, or add in a new entry',
  ],
] as const) {
  test(`a fragment with ${fragment} is refused`, (t) => {
    t.throws(() => merged(`static_resources: ${fragment}`), { message });
  });
}

test('a fragment that is not YAML is refused by name', (t) => {
  t.throws(() => merged('a: [', ''), { message: /^fragment-0\.yaml is not valid YAML: / });
});

test('the program writes the bootstrap with all fragments of a folder, or one line that says what is wrong', async (t) => {
  const folder = await temporaryFolder(t);
  const target = path.join(folder, 'result.yaml');
  await writeFile(path.join(folder, 'bootstrap.yaml'), bootstrap);
  t.is((await runProgram(program, [folder, target])).status, 0);
  t.deepEqual(parse(await readFile(target, 'utf8')), parse(bootstrap));

  await writeFile(path.join(folder, 'fragment-x.yaml'), 'static_resources: { clusters: [{ name: a, type: EDS }] }');
  t.is((await runProgram(program, [folder, target])).status, 0);
  t.is(parse(await readFile(target, 'utf8')).static_resources.clusters[0].type, 'EDS');

  await writeFile(path.join(folder, 'fragment-y.yaml'), 'static_resources: { clusters: [{ name: other }] }');
  const { status, stderr } = await runProgram(program, [folder, target]);
  t.is(status, 1);
  t.is(stderr, 'envoy-bootstrap: fragment-y.yaml: static_resources: clusters, other: the bootstrap has no such entry\n');
  t.is((await runProgram(program, [])).status, 1);
});

test('a fragment with another one is merged last, and only beside it', async (t) => {
  const folder = await temporaryFolder(t);
  const target = path.join(folder, 'result.yaml');
  await writeFile(path.join(folder, 'bootstrap.yaml'), bootstrap);
  await writeFile(path.join(folder, 'fragment-with-x.yaml'), 'static_resources: { clusters: [{ name: x, type: EDS }] }');
  t.is((await runProgram(program, [folder, target])).status, 0);
  t.deepEqual(parse(await readFile(target, 'utf8')), parse(bootstrap));

  await writeFile(path.join(folder, 'fragment-x.yaml'), 'static_resources: { clusters: [{ $patch: add, name: x, type: STATIC }] }');
  t.is((await runProgram(program, [folder, target])).status, 0);
  t.deepEqual(parse(await readFile(target, 'utf8')).static_resources.clusters[1], { name: 'x', type: 'EDS' });
});

test('the bootstrap of the operators is not changed without fragments', async (t) => {
  const folder = await temporaryFolder(t);
  const target = path.join(folder, 'result.yaml');
  await cp(path.join(root, 'envoy'), folder, { recursive: true });
  t.is((await runProgram(program, [folder, target])).status, 0);
  const [written, original] = await Promise.all([target, path.join(root, 'envoy', 'bootstrap.yaml')].map((file) => readFile(file, 'utf8')));
  t.deepEqual(parse(written as string), parse(original as string));
  // With its comments. The program writes a folded text as one line.
  const words = (text = ''): string[] => text.split(/\s+/);
  t.deepEqual(words(written), words(original));
});
