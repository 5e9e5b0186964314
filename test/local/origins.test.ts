import test from 'ava';
import { parse } from 'yaml';
import { type LocalOrigin, originsDocument, parseOrigin, withReadRules } from '../../services/local/origins.ts';
import { compileOrigins } from '../../services/shared/origins.ts';

function parsed(...texts: readonly string[]): readonly LocalOrigin[] {
  const before: LocalOrigin[] = [];
  for (const text of texts) before.push(parseOrigin(text, { before, directory: (name) => `/home/${name}` }));
  return before;
}

test('a folder and a URL become origins of a document that the origin service accepts', (t) => {
  const origins = parsed('_shared/imagenet/=data=1', 'vision/web/=http://127.0.0.1:8000/files', 'vision_web/=https://x.example');
  t.deepEqual(origins, [
    { name: 'shared-imagenet', prefix: '_shared/imagenet/', source: '/home/data=1' },
    { name: 'vision-web', prefix: 'vision/web/', source: 'http://127.0.0.1:8000/files/' },
    { name: 'vision-web-3', prefix: 'vision_web/', source: 'https://x.example/' },
  ]);
  const compiled = compileOrigins(originsDocument(origins));
  t.is(compiled.kind, 'document');
  if (compiled.kind !== 'document') return;
  t.like(compiled.value[0], { name: 'shared-imagenet', source: { kind: 'file', path: '/home/data=1' } });
  // The service refuses loopback addresses unless they are listed.
  t.like(compiled.value[1], { source: { kind: 'http', url: 'http://127.0.0.1:8000/files/' }, allowedHosts: ['127.0.0.1'] });
  t.is(compileOrigins(originsDocument([])).kind, 'document');
});

for (const [text, message] of [
  ['/data', /"\/data" must be PREFIX=DIR or PREFIX=URL/],
  ['=/data', /must be PREFIX=DIR/],
  ['vision/=', /must be PREFIX=DIR/],
  ['vision=/data', /"vision" must end with a slash/],
  ['/vision/=/data', /must not begin with \//],
  ['vision/%zz/=/data', /covers no key/],
  ['vision/%41/=/data', /write "vision\/A\/"/],
  ['nlp/a/=/data', /overlap/],
  ['vision/=https://user:secret@x.example/', /must not hold a user name or a password/],
] as const)
  test(`--origin ${text} is refused`, (t) => {
    const before = parsed('nlp/=data');
    const error = t.throws(() => parseOrigin(text, { before, directory: (name) => name }));
    t.regex(error.message, message);
    t.notRegex(error.message, /secret/);
  });

test('a policy gets a rule for each shared prefix that it does not mention', (t) => {
  const policy = 'rules: # all\n  - name: own\n    keys: [_shared/b/]\n';
  const origins = parsed('_shared/a/=1', '_shared/b/=2', 'vision/x/=3');
  const completed = withReadRules(policy, origins, ['vision']);
  t.regex(completed, /# all/);
  t.deepEqual(parse(completed).rules, [
    { name: 'own', keys: ['_shared/b/'] },
    { name: 'read-shared-a', subjects: [{ namespaces: ['*'] }], verbs: ['GET', 'HEAD', 'FILL', 'LIST'], keys: ['_shared/a/'] },
  ]);
  t.is(withReadRules(completed, origins, ['vision']), completed);
  for (const other of ['rules: [', 'rules: 1', 'x: 1']) t.is(withReadRules(other, origins, ['vision']), other);
});
