import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { documentText } from '../../services/cli/commands/policy-document.ts';
import { type Ended, startKura } from './support/kura.ts';

const policy = `apiVersion: kura/v1
kind: AccessPolicy
mode: enforce
default: deny
limits: { maxObjectBytes: 64Gi }
rules:
  - { name: own, subjects: [{ namespaces: ["*"] }], verbs: [GET, HEAD, PUT, DELETE], keys: ["{namespace}/"] }
  - name: imagenet-read
    subjects: [{ namespaceSelector: { matchLabels: { team: vision } } }]
    verbs: [GET, HEAD]
    keys: [_shared/imagenet/]
  - { name: freeze, effect: deny, subjects: [{ namespaces: ["intern-*"] }], verbs: [PUT, DELETE], keys: [""] }
overrides:
  - { namespaces: ["batch-*"], limits: { maxObjectBytes: 1Gi } }
tests:
  - { as: vision/trainer, verb: PUT, key: _shared/imagenet/x, expect: deny }
  - { as: intern-7/job, verb: PUT, key: intern-7/x, expect: deny }
  - { as: vision/trainer, verb: GET, key: vision/x, expect: allow }
`;

async function withPolicies(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
): Promise<(args: readonly string[], stdin?: string) => Promise<Ended>> {
  const { folder, run } = await startKura(t);
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  return (args, stdin = '') => run(['policy', ...args], { stdin, environment: {} });
}

test.serial('test prints the result of each test in the document and exits with 1 if one fails', async (t) => {
  const run = await withPolicies(t, { good: policy, bad: policy.replace('key: vision/x, expect: allow', 'key: nlp/x, expect: allow') });
  t.like(await run(['test', 'good']), {
    status: 0,
    stdout: [
      'ok     line 16: vision/trainer PUT _shared/imagenet/x: deny by default',
      'ok     line 17: intern-7/job PUT intern-7/x: deny by freeze',
      'ok     line 18: vision/trainer GET vision/x: allow by own',
      '3 of 3 tests passed; 3 rules, mode enforce\n',
    ].join('\n'),
  });
  const { status, stdout } = await run(['test', 'bad']);
  t.is(status, 1);
  t.regex(stdout, /^FAILED line 18: vision\/trainer GET nlp\/x: deny by default, expected allow$/m);
  t.is((await run(['test', 'good'])).stderr, 'warning: good:8:5: rule imagenet-read: no test of the document matches this rule\n');
  t.like(JSON.parse((await run(['test', 'bad', '--json'])).stdout)[2], { passed: false, expect: 'allow', found: 'deny' });
});

test.serial('an invalid document is reported with line and column, and the exit status is 2', async (t) => {
  const run = await withPolicies(t, { bad: policy.replace('default: deny', 'default: maybe').replace('mode: enforce', 'mood: enforce') });
  const { status, stderr } = await run(['test', 'bad']);
  t.is(status, 2);
  t.regex(stderr, /^kura: bad:3:1: .*mood/m);
  t.regex(stderr, /:4:10: default/m);
  t.like(await run(['test', 'absent']), { status: 2 });
});

test.serial('explain prints the deciding rule, the other matching rules, and the limits', async (t) => {
  const run = await withPolicies(t, { policy, dry: policy.replace('mode: enforce', 'mode: dryRun') });
  const ask = async (file: string, ...words: string[]): Promise<string> => (await run(['explain', file, ...words])).stdout;
  t.is(
    await ask('policy', '--as', 'intern-7/job', '--verb', 'put', '--key', 'intern-7/x'),
    'deny, by rule freeze\nalso matching: own\nlimits: maxObjectBytes 68719476736\n',
  );
  const imagenet = ['--as', 'batch-1/trainer', '--verb', 'GET', '--key', '_shared/imagenet/x'];
  t.regex(await ask('policy', ...imagenet), /^deny, by the default, because no rule matches\nlimits: maxObjectBytes 1073741824\n$/);
  t.regex(await ask('policy', ...imagenet, '--labels', 'team=vision'), /^allow, by rule imagenet-read\n/);
  t.regex(await ask('dry', ...imagenet), /mode dryRun: the request is allowed and counted as would-deny/);
  const { stdout } = await run(['explain', 'policy', ...imagenet, '--json']);
  t.like(JSON.parse(stdout), { allowed: false, rule: 'default', matched: [] });
});

test.serial('explain shows the right over a whole prefix', async (t) => {
  const run = await withPolicies(t, { policy, dry: policy.replace('mode: enforce', 'mode: dryRun') });
  const ask = async (file: string, ...words: string[]): Promise<string> =>
    (await run(['explain', file, '--as', 'vision/trainer', ...words])).stdout.split('\n', 1)[0] as string;
  t.is(await ask('policy', '--verb', 'DELETE', '--prefix', 'vision/sets/'), 'allow, by rule own');
  t.is(await ask('policy', '--verb', 'DELETE', '--prefix', ''), 'deny, by the default, because no rule matches');
  t.is(await ask('policy', '--verb', 'LIST', '--prefix', 'vision/'), 'deny, by the default, because no rule matches');
  for (const words of [
    ['--verb', 'DELETE', '--prefix', 'nlp/'],
    ['--verb', 'FILL', '--key', 'nlp/x'],
  ]) {
    const { stdout } = await run(['explain', 'dry', '--as', 'vision/trainer', ...words]);
    t.notRegex(stdout, /dryRun/, 'a dry run does not open it');
  }
});

test.serial('explain shows the origin of the key and whether it may be filled, also from a ConfigMap', async (t) => {
  const origins = 'apiVersion: kura/v1\nkind: Origins\norigins:\n  - { name: nfs, prefix: vision/data/, file: { path: /data } }\n';
  const fill = policy.replace('verbs: [GET, HEAD, PUT, DELETE]', 'verbs: [GET, HEAD, PUT, DELETE, FILL]');
  const configMap = `kind: ConfigMap\ndata:\n  origins.yaml: |\n${origins.replace(/^(?=.)/gm, '    ')}`;
  const run = await withPolicies(t, {
    policy,
    fill,
    origins,
    map: configMap,
    bad: origins.replace('prefix: vision/data/', 'prefix: vision/data'),
  });
  const asked = ['--as', 'vision/trainer', '--verb', 'GET', '--key'];
  const lastLine = async (...words: string[]): Promise<string> =>
    (await run(['explain', ...words])).stdout.trimEnd().split('\n').at(-1) as string;
  for (const file of ['origins', 'map']) {
    t.is(await lastLine('fill', ...asked, 'vision/data/x', '--origins', file), 'origin: nfs; FILL: allow, by rule own');
    t.is(await lastLine('fill', ...asked, 'vision/x', '--origins', file), 'origin: none');
    t.is(
      await lastLine('policy', ...asked, 'vision/data/x', '--origins', file),
      'origin: nfs; FILL: deny, by the default, because no rule matches',
    );
  }
  const prefix = ['--as', 'vision/trainer', '--verb', 'FILL', '--prefix'];
  t.is(await lastLine('fill', ...prefix, 'vision/data/a/', '--origins', 'origins'), 'origin: nfs; FILL: allow, by rule own');
  t.is(await lastLine('fill', ...prefix, 'vision/', '--origins', 'origins'), 'origin: none');
  const json = async (key: string) => JSON.parse((await run(['explain', 'fill', ...asked, key, '--origins', 'origins', '--json'])).stdout);
  t.deepEqual((await json('vision/data/x')).origin, { name: 'nfs', fill: { allowed: true, rule: 'own' } });
  t.is((await json('vision/x')).origin, null);
  t.false('origin' in JSON.parse((await run(['explain', 'fill', ...asked, 'vision/x', '--json'])).stdout));
  const { status, stderr } = await run(['explain', 'fill', ...asked, 'vision/x', '--origins', 'bad']);
  t.is(status, 2);
  t.regex(stderr, /^kura: bad:4:\d+: origin nfs: prefix: "vision\/data" must end with a slash/);
});

test.serial('test and explain read a ConfigMap, with the lines and columns of its file', async (t) => {
  const { folder, run } = await startKura(t);
  const configMap = (text: string): string =>
    `apiVersion: v1\ndata:\n  policy.yaml: |\n${text.replace(/^(?=.)/gm, '    ')}kind: ConfigMap\nmetadata:\n  name: kura-policy\n`;
  const [good, bad] = [path.join(folder, 'good.yaml'), path.join(folder, 'bad.yaml')];
  await writeFile(good, configMap(policy));
  await writeFile(bad, configMap(policy.replace('default: deny', 'default: maybe')));
  await writeFile(path.join(folder, 'plain.yaml'), policy);
  const explain = ['--as', 'vision/trainer', '--verb', 'GET', '--key', 'vision/x'];
  t.is((await run(['policy', 'explain', good, ...explain])).stdout, (await run(['policy', 'explain', 'plain.yaml', ...explain])).stdout);
  const [inMap, plain] = [await run(['policy', 'test', good]), await run(['policy', 'test', 'plain.yaml'])];
  // Three lines of the ConfigMap are above the policy.
  t.is(
    inMap.stdout,
    plain.stdout.replace(/line (\d+)/g, (_, line) => `line ${Number(line) + 3}`),
  );
  t.is(inMap.status, plain.status);
  const { status, stderr } = await run(['policy', 'test', bad]);
  t.is(status, 2);
  const line =
    configMap(policy)
      .split('\n')
      .findIndex((each) => each.includes('default: deny')) + 1;
  t.regex(stderr, new RegExp(`^kura: ${bad}:${line}:14: .*maybe`));
});

test.serial('a ConfigMap whose policy is no block, or that has none, is read as YAML gives it', (t) => {
  const quoted = JSON.stringify({ kind: 'ConfigMap', data: { 'policy.yaml': 'mode: enforce\n' } });
  t.is(documentText(quoted, 'policy.yaml'), 'mode: enforce\n');
  const marked = 'kind: ConfigMap\ndata:\n  policy.yaml: |\n    ---\n    mode: enforce\n';
  t.is(documentText(marked, 'policy.yaml'), '---\nmode: enforce\n');
  for (const other of ['kind: ConfigMap\n', 'kind: AccessPolicy\n', 'a: [', '']) t.is(documentText(other, 'policy.yaml'), other);
});

test.serial('diff lists the recorded decisions that differ, from the audit log or a list', async (t) => {
  const run = await withPolicies(t, {
    now: policy,
    next: policy.replace('namespaces: ["intern-*"]', 'namespaces: ["intern-*", nlp]'),
    recorded: [
      '{"level":30,"msg":"check","audit":{"decision":"allow","verb":"PUT","key":"nlp/x","who":"nlp/trainer","rule":"own","cached":true}}',
      '{"level":30,"msg":"ready"}',
      'authz         │ {"audit":{"decision":"allow","verb":"GET","key":"nlp/x","who":"nlp/trainer"}}',
      '{"who":"vision/eval","verb":"PUT","key":"vision/x"}',
      '{"audit":{"decision":"unauthenticated","verb":"GET","key":"x","reason":"no token"}}',
      'not JSON',
    ].join('\n'),
  });
  const first = await run(['diff', 'now', 'next', '--decisions', 'recorded']);
  t.is(first.status, 1);
  t.is(
    first.stdout,
    'nlp/trainer PUT nlp/x: allow (own) → deny (freeze)\n1 of 3 decisions differ\n'.replace('→', Buffer.from('→').toString('latin1')),
  );
  t.is(first.stderr, 'skipped 3 lines that are not recorded decisions\n');
  t.like(await run(['diff', 'now', 'now', '--decisions', 'recorded']), { status: 0, stdout: '0 of 3 decisions differ\n' });
  const labelled = '{"who":"x/y","verb":"GET","key":"_shared/imagenet/a"}';
  const without = policy.replace('team: vision', 'team: nobody');
  const other = await withPolicies(t, { now: policy, next: without });
  t.is((await other(['diff', 'now', 'next', '--decisions', '-'], labelled)).status, 0);
  t.like(JSON.parse((await other(['diff', 'now', 'next', '--decisions', '-', '--labels', 'x:team=vision', '--json'], labelled)).stdout), {
    who: 'x/y',
    before: { decision: 'allow', rule: 'imagenet-read' },
    after: { decision: 'deny', rule: 'default' },
  });
});

test.serial('invalid arguments are reported with exit status 2', async (t) => {
  const run = await withPolicies(t, { policy });
  for (const [args, complaint] of [
    [['explain', 'policy'], /--as/],
    [['explain', 'policy', '--as', 'vision', '--verb', 'GET', '--key', 'x'], /namespace\/serviceaccount/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'POST', '--key', 'x'], /GET, HEAD, PUT, DELETE/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET', '--key', 'a/../b'], /is not a valid key/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET', '--key', 'x', '--labels', 'team'], /key=value/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET'], /one of --key and --prefix is needed/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET', '--key', 'x', '--prefix', 'x/'], /one of --key and --prefix is needed/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET', '--prefix', 'x'], /is not a valid prefix/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'LIST', '--key', 'x/'], /use --prefix instead of --key/],
    [['explain', 'policy', '--as', 'a/b', '--verb', 'GET', '--key', 'x', '--origins', 'absent'], /ENOENT/],
    [['diff', 'policy', 'policy', '--decisions', 'absent'], /ENOENT/],
    [['diff', 'policy', 'policy', '--decisions', '-', '--labels', 'team=x'], /namespace:key=value/],
  ] as const) {
    const { status, stderr } = await run(args);
    t.is(status, 2, args.join(' '));
    t.regex(stderr, complaint);
  }
});
