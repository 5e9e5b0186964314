import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { parsePolicy, type Rule, verbs } from '../../../services/authz/policy/document.ts';
import { globMatches, globsOverlap } from '../../../services/authz/policy/glob.ts';
import { compilePolicy, type Policy } from '../../../services/authz/policy/policy.ts';
import { compileText } from '../../../services/authz/policy/policy-text.ts';
import { readHeaders, signHeaders } from '../../../services/shared/signed-terms.ts';
import type { Problem } from '../../../services/shared/strict-reader.ts';
import { documentOf, globText, isAllowedByModel, isAllowedOverByModel, keyText, rules, toRegExp, who } from '../support/generated.ts';

const head = 'apiVersion: kura/v1\nkind: AccessPolicy\nmode: enforce\ndefault: deny\n';
const example = `${head}limits: { maxObjectBytes: 64Gi }
rules:
- name: own
  subjects: [{ namespaces: ["*"] }]
  verbs: [GET, HEAD, PUT, DELETE, FILL, LIST]
  keys: ["{namespace}/"]
- name: imagenet-read
  subjects:
  - namespaceSelector: { matchLabels: { team: vision } }
    serviceAccounts: ["trainer", "eval-*"]
  verbs: [GET, HEAD]
  keys: ["_shared/imagenet/"]
- name: account
  subjects: [{ namespaces: [shared] }]
  verbs: [PUT]
  keys: ["by/{namespace}/{serviceAccount}/"]
- name: freeze
  effect: deny
  subjects: [{ namespaces: ["intern-*"] }]
  verbs: [PUT, DELETE]
  keys: [""]
overrides:
- { namespaces: ["batch-*"], limits: { maxObjectBytes: 1Gi, share: 0.25 } }
- { namespaces: ["batch-big"], limits: { maxObjectBytes: 2Ti } }
tests:
- { as: vision/trainer, verb: PUT, key: _shared/imagenet/x, expect: deny }
- { as: vision/trainer, labels: { team: vision }, verb: GET, key: _shared/imagenet/x, expect: allow }
`;

function compile(text: string): Policy {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') throw new Error(JSON.stringify(parsed.problems));
  const compiled = compilePolicy(parsed.value);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  return compiled.policy;
}

function problemsOf(text: string): readonly Problem[] {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') return parsed.problems;
  const compiled = compilePolicy(parsed.value);
  return compiled.kind === 'rejected' ? compiled.problems : [];
}

for (const [who, labels, verb, key, expected] of [
  ['vision/trainer', {}, 'PUT', 'vision/x', 'own'],
  ['vision/trainer', {}, 'GET', 'visionary/x', 'default'],
  ['vision/trainer', {}, 'GET', 'nlp/x', 'default'],
  ['a/trainer', { team: 'vision' }, 'GET', '_shared/imagenet/x', 'imagenet-read'],
  ['a/trainer', { team: 'vision' }, 'PUT', '_shared/imagenet/x', 'default'],
  ['a/eval-7', { team: 'vision' }, 'HEAD', '_shared/imagenet/', 'imagenet-read'],
  ['a/evaluator', { team: 'vision' }, 'GET', '_shared/imagenet/x', 'default'],
  ['a/trainer', { team: 'nlp' }, 'GET', '_shared/imagenet/x', 'default'],
  ['a/trainer', {}, 'GET', '_shared/imagenet/x', 'default'],
  ['shared/bot', {}, 'PUT', 'by/shared/bot/x', 'account'],
  ['shared/bot', {}, 'PUT', 'by/shared/other/x', 'default'],
  ['intern-1/trainer', {}, 'PUT', 'intern-1/x', 'freeze'],
  ['intern-1/trainer', {}, 'GET', 'intern-1/x', 'own'],
  ['intern/trainer', {}, 'PUT', 'intern/x', 'own'],
] as const) {
  test(`${who} ${verb} ${key} with ${JSON.stringify(labels)} is decided by ${expected}`, (t) => {
    const [namespace = '', serviceAccount = ''] = who.split('/');
    const verdict = compile(example).decide({ identity: { namespace, serviceAccount }, labels, verb, key });
    t.is(verdict.rule, expected);
    t.is(verdict.allowed, expected !== 'default' && expected !== 'freeze');
  });
}

test('a canonical prefix with escapes, dots and templates is accepted', (t) => {
  for (const key of ['my%20data/%C3%A4/', "vision/a+b~'(:@,", 'vision/.', '{namespace}/%7B', '%252e'])
    t.deepEqual(problemsOf(example.replace('_shared/imagenet/"]', `${key}"]`).replace(/\n- \{ as: .*team: vision.*\n/, '\n')), [], key);
});

test('the limits are the document’s, replaced by an override with the exact name, or else by one with a glob', (t) => {
  const policy = compile(example);
  const limits = (namespace: string) =>
    policy.decide({ identity: { namespace, serviceAccount: 'x' }, labels: {}, verb: 'GET', key: 'x' }).limits;
  t.deepEqual(limits('vision'), { maxObjectBytes: 64 * 2 ** 30 });
  t.deepEqual(limits('batch-7'), { maxObjectBytes: 2 ** 30, share: 0.25 });
  t.deepEqual(limits('batch-big'), { maxObjectBytes: 2 * 2 ** 40 });
  t.is(
    compile(`${head}rules: []\n`).decide({ identity: { namespace: 'a', serviceAccount: 'b' }, labels: {}, verb: 'GET', key: 'x' }).limits
      .maxObjectBytes,
    64 * 2 ** 30,
  );
});

/** Each with the place in the text that the problem has to name. */
for (const [what, text, place, message] of [
  ['an unknown field', `${head}rules: []\nrule: []\n`, 'rule: []', /no field "rule"; the fields are apiVersion/],
  [
    'an unknown field of a rule',
    example.replace('  keys: ["{namespace}/"]', '  keys: ["{namespace}/"]\n  prefixes: []'),
    'prefixes',
    /a rule has no field "prefixes"/,
  ],
  ['a duplicate key', `${head}default: allow\nrules: []\n`, 'default: allow', /unique/i],
  ['a missing field', 'apiVersion: kura/v1\nkind: AccessPolicy\nmode: enforce\nrules: []\n', 'apiVersion', /lacks the field "default"/],
  ['another version', `${head.replace('kura/v1', 'kura/v2')}rules: []\n`, 'kura/v2', /apiVersion is "kura\/v2"; it must be kura\/v1/],
  [
    'an unknown verb',
    example.replace('verbs: [PUT]', 'verbs: [POST]'),
    'POST',
    /rule account: a verb is "POST"; it must be GET, HEAD, PUT, DELETE, FILL, or LIST/,
  ],
  [
    'an unknown template',
    example.replace('by/{namespace}', 'by/{pod}'),
    '"by/{pod}',
    /\{pod\} is neither \{namespace\} nor \{serviceAccount\}/,
  ],
  ['an open template', example.replace('by/{namespace}', 'by/{namespace'), '"by/{namespace', /is neither/],
  ['a key that is not ASCII', example.replace('_shared/imagenet/"]', 'données/"]'), '"données', /not a prefix of printable ASCII/],
  [
    'a prefix that is not canonical',
    example.replace('_shared/imagenet/"]', 'my%20d%61ta/%c3%a4/"]'),
    '"my%20d',
    /rule imagenet-read: a key: "my%20d%61ta\/%c3%a4\/" is not canonical; write "my%20data\/%C3%A4\/"$/,
  ],
  [
    'a malformed escape',
    example.replace('_shared/imagenet/"]', '100%/"]'),
    '"100%/',
    /a key: "100%\/" covers no key: it has a malformed escape/,
  ],
  [
    'a prefix with a dot segment',
    example.replace('_shared/imagenet/"]', '_shared/../imagenet/"]'),
    '"_shared/../',
    /a key: "_shared\/\.\.\/imagenet\/" covers no key: it has a \. or \.\. segment/,
  ],
  ['an escaped slash', example.replace('by/{namespace}', 'by%2F{namespace}'), '"by%2F', /covers no key: .*%2F/],
  [
    'a test of a key that is not canonical',
    example.replace('key: _shared/imagenet/x, expect: deny', 'key: _shared/%69, expect: deny'),
    '_shared/%69',
    /key: "_shared\/%69" is not canonical; write "_shared\/i"/,
  ],
  ['a rule without subjects', example.replace('subjects: [{ namespaces: [shared] }]', 'subjects: []'), '[]', /subjects is empty/],
  ['a subject without a field', example.replace('[{ namespaces: [shared] }]', '[{}]'), '{}', /would be everybody/],
  ['an empty selector', example.replace('{ matchLabels: { team: vision } }', '{ matchLabels: {} }'), '{} }', /matchLabels is empty/],
  ['a regular expression', example.replace('"eval-*"', '"eval-.+"'), '"eval-.+"', /not a name, with \*/],
  [
    'two rules of one name',
    example.replace('name: account', 'name: imagenet-read'),
    /imagenet-read\n {2}subjects: \[/,
    /two rules are named "imagenet-read"/,
  ],
  ['a size that is none', example.replace('64Gi', '64 gigs'), '64 gigs', /not a size/],
  [
    'a rate of no bytes',
    example.replace('share: 0.25', 'bytesPerSecond: 0'),
    '0 }',
    /bytesPerSecond is not a size such as .* from 1 to 999999999999999 bytes/,
  ],
  ['a size that no shard reads', example.replace('64Gi', '1000Ti'), '1000Ti', /maxObjectBytes is not a size .* to 999999999999999 bytes/],
  ['a namespace that is too long', example.replace('[shared]', `[${'a'.repeat(64)}]`), 'aaaa', /"a+…" is longer than 63 bytes/],
  ['a ServiceAccount that is too long', example.replace('"eval-*"', `"${'e'.repeat(253)}*"`), '"eeee', /"e+…" is longer than 253 bytes/],
  ['a prefix that is too long', example.replace('by/{namespace}', `by/${'x'.repeat(1024)}`), '"by/x', /longer than 1024 bytes/],
  ['a duplicate label', example.replace('{ team: vision } }', '{ team: a, team: vision } }'), 'team: vision } }', /"team" is not unique/],
  ['a share above 1', example.replace('share: 0.25', 'share: 25'), '25 }', /share is not a number from/],
  [
    'a test that fails',
    example.replace('expect: allow', 'expect: deny'),
    /^- \{ as: vision\/trainer, labels/m,
    /test failed: vision\/trainer GET _shared\/imagenet\/x: expected deny, found allow \(rule imagenet-read\)/,
  ],
  ['two globs of one namespace', example.replace('"batch-big"', '"*-big"'), 'apiVersion', /"batch-\*" and "\*-big"/],
  ['the same namespace twice', example.replace('["batch-*"]', '["batch-big"]'), 'apiVersion', /"batch-big" and "batch-big"/],
  ['no mapping at all', '- a\n', '- a', /the policy is not a mapping/],
  ['an empty document', '', '', /the policy is not a mapping/],
  ['two documents', `${head}rules: []\n---\na: 1\n`, '---', /document/i],
  ['no YAML', 'a: [', /$/, /./],
  ['an alias', `${head}rules: []\nlimits: &l {}\noverrides: [{ namespaces: [a], limits: *l }]\n`, '*l', /limits is not a mapping/],
] as const) {
  test(`${what} rejects the document with its line and column`, (t) => {
    const [first] = problemsOf(text);
    t.regex(String(first?.message), message);
    const before = text.slice(0, typeof place === 'string' ? text.indexOf(place) : text.search(place)).split('\n');
    t.deepEqual([first?.line, first?.column], [before.length, (before.at(-1)?.length ?? 0) + 1]);
  });
}

function warningsOf(text: string): string[] {
  const compiled = compileText(text);
  return compiled.kind === 'document' ? compiled.warnings.map(({ line, column, message }) => `${line}:${column} ${message}`) : ['rejected'];
}

/** A document with the rule `own`, and a rule `other` that a test matches. */
const withRule = (fields: string, test: string): string => `${head}rules:
- { name: own, subjects: [{ namespaces: ["*"] }], verbs: [GET, PUT], keys: ["{namespace}/"] }
- { name: other, verbs: [GET], ${fields} }
tests:
- { as: vision/trainer, verb: PUT, key: vision/x, expect: allow }
- { as: nlp/trainer, verb: GET, ${test} }
`;
const everybody = 'subjects: [{ namespaces: ["*"] }]';

for (const [what, text, warnings] of [
  [
    'a prefix with a slash at its start',
    withRule(`${everybody}, keys: ["/_s/"]`, 'key: /_s/x, expect: allow'),
    [/^7:74 rule other: the prefix "\/_s\/" begins with \//],
  ],
  [
    'a prefix with a star',
    withRule(`${everybody}, keys: ["_s/*"]`, 'key: _s/*, expect: allow'),
    [/"_s\/\*" contains \*/, /does not end in \//],
  ],
  [
    'a prefix without a slash at its end',
    withRule(`${everybody}, keys: ["_s/a"]`, 'key: _s/a, expect: allow'),
    [/"_s\/a" does not end in \/, so it also covers "_s\/ax"/],
  ],
  [
    '{serviceAccount} alone',
    withRule(`${everybody}, keys: ["{serviceAccount}/"]`, 'key: trainer/x, expect: allow'),
    [/has {serviceAccount} without {namespace}/],
  ],
  [
    '{serviceAccount} before {namespace}',
    withRule(`${everybody}, keys: ["{serviceAccount}/{namespace}/"]`, 'key: trainer/nlp/x, expect: allow'),
    [/has {serviceAccount} without {namespace}/],
  ],
  [
    '{serviceAccount} of one namespace',
    withRule('subjects: [{ namespaces: [nlp] }], keys: ["nlp/{serviceAccount}/"]', 'key: nlp/trainer/x, expect: allow'),
    [],
  ],
  [
    '{namespace} before {serviceAccount}',
    withRule(`${everybody}, keys: ["_by/{namespace}/{serviceAccount}/"]`, 'key: _by/nlp/trainer/x, expect: allow'),
    [],
  ],
  [
    'serviceAccounts alone',
    withRule('subjects: [{ serviceAccounts: [trainer] }], keys: [_s/]', 'key: _s/x, expect: allow'),
    [/^7:43 .*serviceAccounts alone/],
  ],
  [
    'serviceAccounts alone in a deny rule',
    withRule('effect: deny, subjects: [{ serviceAccounts: [trainer] }], keys: [_s/]', 'key: _s/x, expect: deny'),
    [],
  ],
  [
    'a prefix that a namespace would own',
    withRule(`${everybody}, keys: [datasets/]`, 'key: datasets/x, expect: allow'),
    [/"datasets\/" belongs to the namespace "datasets" too, by rule own/],
  ],
  [
    'a template that a namespace would own',
    withRule(`${everybody}, keys: ["{namespace}-tmp/"]`, 'key: nlp-tmp/x, expect: allow'),
    [/"{namespace}-tmp\/" belongs to/],
  ],
  [
    'a prefix of a namespace that a test names',
    withRule(`${everybody}, keys: [vision/shared/]`, 'key: vision/shared/x, expect: allow'),
    [],
  ],
  ['a prefix that no namespace can own', withRule(`${everybody}, keys: [_shared/, "Data/", "a.b/"]`, 'key: _shared/x, expect: allow'), []],
  [
    'a rule that no test matches',
    withRule(`${everybody}, keys: [_shared/]`, 'key: x, expect: deny'),
    [/^7:3 rule other: no test of the document matches this rule$/],
  ],
] as const) {
  test(`${what}: ${warnings.length === 0 ? 'no warning' : 'a warning'}`, (t) => {
    const found = warningsOf(text);
    t.is(found.length, warnings.length, found.join('\n'));
    for (const [index, warning] of warnings.entries()) t.regex(found[index] ?? '', warning);
  });
}

test('the recipes of the documentation and the default policy have no warnings', async (t) => {
  const root = path.resolve(import.meta.dirname, '..', '..', '..');
  const page = await readFile(path.join(root, 'docs', 'policy.md'), 'utf8');
  const recipes = [...page.matchAll(/```yaml\n(apiVersion: kura\/v1\n.*?)```/gs)].map(([, text = '']) => text);
  t.true(recipes.length > 5);
  for (const text of [...recipes, await readFile(path.join(root, 'k8s', 'base', 'policy.yaml'), 'utf8')])
    t.deepEqual(warningsOf(text), [], text);
});

const many = (count: number, text: (index: number) => string): string => Array.from({ length: count }, (_, index) => text(index)).join('');
const overrides = (count: number, namespaces: (index: number) => string): string =>
  `${head}rules: []\noverrides:\n${many(count, (index) => `- { namespaces: [${namespaces(index)}], limits: {} }\n`)}`;
const levels = many(12, (level) => {
  const item = level === 0 ? 'x' : `*l${level - 1}`;
  return `l${level}: &l${level} [${Array(10).fill(item).join(', ')}]\n`;
});
const manyTests = `tests:\n${'- { as: a/b, verb: GET, key: x, expect: deny }\n'.repeat(1_000)}`;

/** Documents that took seconds or minutes, or overflowed the stack. */
for (const [what, text, message] of [
  ['a YAML bomb', levels, /no field "l0"/],
  ['an overlong document', `${head}rules: []\n# ${'x'.repeat(2 ** 20)}\n`, /longer than 1048576 bytes/],
  ['two globs of 20,000 letters', overrides(2, (index) => `"a*${'b'.repeat(20_000 + index)}"`), /longer than 63 bytes/],
  ['two globs of 1,500 stars', overrides(2, () => `a${'*'.repeat(1_500)}`), /longer than 63 bytes/],
  [
    '12,000 globs in overrides',
    overrides(400, (index) => many(30, (item) => `"a${index}-${item}-*",`)),
    /12000 names with \*; at most 1000/,
  ],
  ['1,000 globs that overlap', overrides(1_000, (index) => `"*a${index}"`), undefined],
  ['1,000 equal globs', overrides(1_000, () => '"a*"'), /"a\*" and "a\*"/],
  ['50,000 fields', `${head}rules: []\n${many(50_000, (index) => `k${index}: 1\n`)}`, /more than 1000 fields/],
  ['200,000 wrong rules', `${head}rules:\n${'- 1\n'.repeat(200_000)}`, /rules has more than 1000 entries/],
  ['100,000 open brackets', '['.repeat(100_000), /./],
  [
    '90,000 globs and 1,000 tests',
    `${head}rules:\n${many(90, (rule) => `- { name: r${rule}, subjects: [{ namespaces: [${many(1_000, (index) => `a${index}-*,`)}] }], verbs: [GET], keys: [""] }\n`)}${manyTests}`,
    /more than 20000 entries in all/,
  ],
] as const) {
  test(`${what}: the document is compiled or rejected quickly`, (t) => {
    const startedAt = performance.now();
    const [first] = problemsOf(text);
    if (message === undefined) t.is(first, undefined);
    else t.regex(String(first?.message), message);
    // Some milliseconds to a second; before, up to minutes.
    t.true(performance.now() - startedAt < 20_000);
  });
}

test('whatever limits a policy accepts, a shard reads', (t) => {
  const size = fc
    .tuple(fc.nat(2_000), fc.constantFrom('', 'K', 'Ki', 'M', 'Mi', 'G', 'Gi', 'T', 'Ti'))
    .map(([digits, unit]) => `${digits}${unit}`);
  const share = fc.oneof(
    fc.double({ min: 0.0001, max: 1, noNaN: true }),
    fc.integer({ min: 1, max: 10_000 }).map((part) => part / 10_000),
  );
  const edge = fc.constantFrom('1000Ti', '909Ti', '910Ti', '999999999999999', '1000000000000000', '999T', '1000T', '900Ti');
  const caller = { namespace: 'a', serviceAccount: 'b', pod: undefined };
  let accepted = 0;
  const property = fc.property(fc.oneof(size, fc.nat().map(String), edge), share, fc.boolean(), (bytes, part, isOverride) => {
    const limits = `{ maxObjectBytes: ${bytes}, share: ${part} }`;
    const compiled = compileText(
      isOverride ? `${head}rules: []\noverrides: [{ namespaces: [a], limits: ${limits} }]\n` : `${head}rules: []\nlimits: ${limits}\n`,
    );
    if (compiled.kind === 'rejected') return;
    accepted += 1;
    const { maxObjectBytes, share: maxShare } = compiled.value.accessOf({ identity: caller, labels: {} }).limits;
    const terms = { maxObjectBytes, maxShare, mayRedirect: true, expiresAtSeconds: 2 };
    t.deepEqual(readHeaders(undefined, signHeaders(undefined, caller, terms)), { kind: 'good', caller, terms });
  });
  fc.assert(property, { numRuns: 1_000 });
  t.true(accepted > 100);
});

test('the default policy is valid and passes its tests', async (t) => {
  const text = await readFile(path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'base', 'policy.yaml'), 'utf8');
  t.deepEqual(problemsOf(text), []);
  t.true(compile(text).document.tests.length > 0);
});

test('globs match like their regular expressions, and overlap when a name matches both', (t) => {
  const names = ['', 'a', 'b'].concat(
    ['a', 'b'].flatMap((first) =>
      ['a', 'b'].flatMap((second) => ['', 'a', 'b', 'ab', 'ba', 'aa', 'bb'].map((rest) => first + second + rest)),
    ),
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(globText, fc.constantFrom(...names), (pattern, text) => globMatches(pattern, text) === toRegExp(pattern).test(text)),
    ),
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(globText, globText, (a, b) => !names.some((text) => globMatches(a, text) && globMatches(b, text)) || globsOverlap(a, b)),
    ),
  );
  for (const [a, b] of [
    ['a*', 'b*'],
    ['*a', '*b'],
    ['a*b', 'a*a'],
    ['ab*', 'aa'],
    ['ab', 'ba'],
  ] as const)
    t.false(globsOverlap(a, b), `${a} ${b}`);
  t.true(globsOverlap('*a', 'b*'));
});

test('FILL and LIST need a rule that names them, and the default rule of a namespace has all six verbs', async (t) => {
  const open = compile(`${head.replace('default: deny', 'default: allow')}rules: []\n`);
  const asker = { identity: { namespace: 'vision', serviceAccount: 'trainer' }, labels: {} };
  for (const verb of verbs) {
    t.is(open.decide({ ...asker, verb, key: 'x' }).allowed, verb !== 'FILL' && verb !== 'LIST', verb);
    t.false(open.decideOver({ ...asker, verb, prefix: 'x/' }).allowed, verb);
  }
  const shipped = compile(await readFile(path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'base', 'policy.yaml'), 'utf8'));
  for (const verb of verbs) {
    t.true(shipped.decide({ ...asker, verb, key: 'vision/x' }).allowed, verb);
    t.true(shipped.decideOver({ ...asker, verb, prefix: 'vision/' }).allowed, verb);
    t.false(shipped.decideOver({ ...asker, verb, prefix: 'nlp/' }).allowed, verb);
    t.false(shipped.decideOver({ ...asker, verb, prefix: '' }).allowed, verb);
  }
});

test('a test of the document can ask about a whole prefix', (t) => {
  const rulesOf =
    'rules:\n- { name: own, subjects: [{}], verbs: [DELETE, LIST], keys: [a/] }\n- { name: no, effect: deny, subjects: [{}], verbs: [DELETE], keys: [a/b/c] }\n';
  const withTest = (fields: string): string =>
    `${head}${rulesOf.replaceAll('[{}]', '[{ namespaces: [n] }]')}tests:\n- { as: n/s, ${fields} }\n`;
  const messageOf = (fields: string): string => problemsOf(withTest(fields)).map(({ message }) => message)[0] ?? '';
  t.is(messageOf('verb: LIST, prefix: a/b/, expect: allow'), '');
  t.is(messageOf('verb: DELETE, prefix: a/b/, expect: deny'), '');
  t.is(messageOf('verb: DELETE, key: a/b/, expect: allow'), '');
  t.is(messageOf('verb: DELETE, prefix: a/d/, expect: allow'), '');
  t.is(messageOf('verb: LIST, prefix: "", expect: deny'), '');
  t.is(messageOf('verb: DELETE, prefix: a/, expect: allow'), 'test failed: n/s DELETE a/: expected allow, found deny (rule no)');
  t.regex(messageOf('verb: LIST, key: a/b, expect: allow'), /LIST is a right over a prefix; write prefix instead of key/);
  t.regex(messageOf('verb: GET, prefix: a/b, expect: deny'), /"a\/b" must end with \//);
  for (const fields of ['verb: GET, expect: deny', 'verb: GET, key: a/x, prefix: a/, expect: deny'])
    t.regex(messageOf(fields), /a test must have one of key and prefix/);
});

test('a right over a prefix equals that of a naive model, and covers each key under the prefix', (t) => {
  const prefixText = fc.oneof(
    fc.constantFrom('', 'a/', 'b/', 'a/b/', 'x/a/', 'ab/'),
    keyText.map((key) => `${key}/`),
  );
  const byDefault = fc.constantFrom('allow' as const, 'deny' as const);
  const property = fc.property(
    rules,
    byDefault,
    who,
    fc.constantFrom(...verbs),
    prefixText,
    keyText,
    (given, otherwise, asker, verb, prefix, rest) => {
      const document = documentOf(given, otherwise);
      const compiled = compilePolicy(document);
      if (compiled.kind === 'rejected') return false;
      const { allowed } = compiled.policy.decideOver({ ...asker, verb, prefix });
      const coversKey = isAllowedByModel(document, { ...asker, verb, key: prefix + rest });
      return allowed === isAllowedOverByModel(document, { ...asker, verb, prefix }) && (!allowed || coversKey);
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});

test('deny rules override allow rules in any order, and decisions equal those of a naive model', (t) => {
  const byDefault = fc.constantFrom('allow' as const, 'deny' as const);
  const property = fc.property(rules, byDefault, who, fc.constantFrom(...verbs), keyText, (given, otherwise, asker, verb, key) => {
    const asked = { ...asker, verb, key };
    const decide = (ordered: readonly Rule[]): boolean => {
      const compiled = compilePolicy(documentOf(ordered, otherwise));
      return compiled.kind === 'policy' && compiled.policy.decide(asked).allowed;
    };
    const expected = isAllowedByModel(documentOf(given, otherwise), asked);
    return decide(given) === expected && decide([...given].reverse()) === expected;
  });
  t.notThrows(() => fc.assert(property, { numRuns: 1_000 }));
});
