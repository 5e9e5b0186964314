/** `npm run check:envoy -- FILE`, with the real Envoy. */
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseDocument } from 'yaml';
import { refusalOf, refusedNode } from '../../scripts/checks/envoy-refusal.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { temporaryFolder } from '../support/service.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');
const envoy = envoyBinary({ root, override: process.env.KURA_ENVOY });

/** Runs the check as npm runs it for a user whose shell is in `folder`. */
function check(
  folder: string,
  file: string,
  environment: Readonly<Record<string, string>> = {},
): { status: number | null; lines: string[] } {
  const script = path.join(root, 'scripts', 'checks', 'envoy-bootstrap.ts');
  const env = { ...process.env, npm_lifecycle_event: 'check:envoy', INIT_CWD: folder, ...environment };
  const { status, stderr } = spawnSync(process.execPath, [script, file], { cwd: root, encoding: 'utf8', env });
  return { status, lines: stderr.split('\n').filter((line) => line !== '') };
}

async function edited(t: ExecutionContext, text: string): Promise<string> {
  const folder = await temporaryFolder(t);
  await writeFile(path.join(folder, 'mine.yaml'), text);
  return folder;
}

/** Line and column of the first `word` in or below the line of the first `after`. */
function placeOf(text: string, word: string, after: string): string {
  const before = text.slice(0, text.indexOf(word, text.lastIndexOf('\n', text.indexOf(after)))).split('\n');
  return `${before.length}:${(before.at(-1) as string).length + 1}`;
}

test('a good file passes, and its name is relative to the folder of the user', async (t) => {
  const folder = await edited(t, source);
  t.deepEqual(check(folder, 'mine.yaml'), { status: 0, lines: [] });
});

for (const [name, from, to, at, reason] of [
  [
    'an unknown field',
    '    listener_filters_timeout: 5s',
    '    listener_filters_timeoud: 5s',
    'listener_filters_timeoud',
    "no such field: 'listener_filters_timeoud'",
  ],
  ['an unknown field inside an Any', 'normalize_path: true', 'normalise_path: true', 'normalise_path', "no such field: 'normalise_path'"],
  ['an unknown field at the top', 'overload_manager:', 'overlord_manager:', 'overlord_manager', "no such field: 'overlord_manager'"],
  ['an unknown value of an enum', 'codec_type: HTTP1', 'codec_type: HTTP9', 'HTTP9', "unknown enum value: 'HTTP9'"],
  [
    'an unknown type',
    'maglev.v3.Maglev',
    'maglev.v3.Maglov',
    'type.googleapis.com/envoy.extensions.load_balancing_policies.maglev.v3.Maglov',
    'could not find @type',
  ],
  ['a value of a wrong kind', 'numerator: 100', 'numerator: many', 'numerator: many', "invalid number: 'many'"],
  ['a value out of range', 'port_value: 9902', 'port_value: 99020', 'port_value: 99020', 'value must be less than or equal to 65535'],
  [
    'an empty value inside an Any',
    'stat_prefix: objects',
    'stat_prefix: ""',
    'stat_prefix: ""',
    'value length must be at least 1 characters',
  ],
  ['an unknown cluster', 'cluster: kura-cache', 'cluster: kura-cach', 'kura-cach\n', "unknown cluster 'kura-cach'"],
  ['a broken expression', 'regex: "GET|HEAD"', 'regex: "GET|(HEAD"', '"GET|(HEAD"', 'missing ): GET|(HEAD'],
  [
    'an unknown log field',
    '"%RESPONSE_CODE%"',
    '"%RESPONSE_CODES%"',
    '"%RESPONSE_CODES%"',
    'Not supported field in StreamInfo: RESPONSE_CODES',
  ],
] as const) {
  test(`${name}: Envoy's refusal has the line and the column of the file`, async (t) => {
    t.true(source.includes(from), from);
    const text = source.replace(from, to);
    const { status, lines } = check(await edited(t, text), 'mine.yaml');
    t.is(status, 1);
    const refusals = lines.filter((line) => line.includes('envoy --mode validate'));
    t.is(refusals.length, 1);
    t.true(refusals[0]?.startsWith(`mine.yaml:${placeOf(text, at, to.trim())}: envoy --mode validate: `), refusals[0]);
    t.true(refusals[0]?.includes(`Envoy would not start: `) && refusals[0].includes(reason), refusals[0]);
    t.true((refusals[0]?.length ?? 0) < 500, refusals[0]);
  });
}

test('a field that a later Envoy will not know is one message', async (t) => {
  const folder = await edited(t, source.replace('- name: admin', '- name: admin\n      dns_refresh_rate: 1s'));
  const { status, lines } = check(folder, 'mine.yaml');
  t.is(status, 1);
  t.is(lines.length, 1, lines.join('\n'));
  t.regex(lines[0] as string, /^mine\.yaml: envoy --mode validate: envoy\.config\.cluster\.v3\.Cluster\.dns_refresh_rate is deprecated;/);
});

test('a breach of a rule of kura has the line and the column too; a missing field those of its parent', async (t) => {
  const text = source.replace('failure_mode_allow: false', 'failure_mode_allow: true').replace(/^ *merge_slashes: false.*\n/m, '');
  const { lines } = check(await edited(t, text), 'mine.yaml');
  t.is(lines.length, 2);
  const manager = placeOf(text, '"@type"', 'envoy.filters.network.http_connection_manager\n');
  t.true(lines[0]?.startsWith(`mine.yaml:${manager}: static_resources.`), lines[0]);
  t.regex(lines[0] ?? '', /merge_slashes: is missing; must be false/);
  t.true(lines[1]?.startsWith(`mine.yaml:${placeOf(text, 'failure_mode_allow', 'failure_mode_allow')}: `), lines[1]);
});

for (const [name, text, expected] of [
  ['no YAML', source.replace('\nadmin:\n', '\nadmin: [\n'), /^mine\.yaml:\d+:\d+: is not YAML: /],
  ['an empty file', '', /^mine\.yaml: .*is missing; must be/],
] as const) {
  test(`${name} is reported without a stack`, async (t) => {
    const { status, lines } = check(await edited(t, text), 'mine.yaml');
    t.is(status, 1);
    t.regex(lines[0] ?? '', expected);
    t.false(lines.some((line) => line.includes('    at ')));
  });
}

test('a file that does not exist is one message', async (t) => {
  t.deepEqual(check(await temporaryFolder(t), 'none.yaml'), { status: 1, lines: ['none.yaml: the file does not exist'] });
});

test('an Envoy that is too old is one message, and its refusal is not shown', async (t) => {
  const folder = await edited(t, source);
  const old = path.join(folder, 'envoy');
  await writeFile(old, '#!/bin/sh\necho "envoy  version: abc/1.38.3/Clean/RELEASE/BoringSSL"\nexit 1\n', { mode: 0o755 });
  const { status, lines } = check(folder, 'mine.yaml', { KURA_ENVOY: old });
  t.is(status, 1);
  t.deepEqual(lines, [`mine.yaml: ${old} is Envoy 1.38.3; this bootstrap needs Envoy 1.39 or later`]);
});

test('an Envoy that cannot run is one message', async (t) => {
  const folder = await edited(t, source);
  const { status, lines } = check(folder, 'mine.yaml', { KURA_ENVOY: path.join(folder, 'none') });
  t.is(status, 1);
  t.is(lines.length, 1);
  t.regex(lines[0] ?? '', /^mine\.yaml: Envoy did not run: .*; run npm run setup, or set KURA_ENVOY to an Envoy binary$/);
});

test('the command at the head of the bootstrap works as it is written', async (t) => {
  const lines = source.split('\n');
  const start = lines.findIndex((line) => line.includes('envoy --mode validate'));
  const command = lines.slice(start, start + 2).map((line) => line.replace(/^# +/, ''));
  const folder = await temporaryFolder(t);
  await mkdir(path.join(folder, 'bin'));
  await symlink(envoy, path.join(folder, 'bin', 'envoy'));
  const env = { ...process.env, PATH: `${path.join(folder, 'bin')}:${process.env.PATH}` };
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command.join('\n')], { cwd: path.join(root, 'envoy'), encoding: 'utf8', env });
  // On a host without a memory control group only its monitor fails.
  if (/cgroup|control group/i.test(stderr) && status !== 0) t.pass();
  else t.is(status, 0, stdout + stderr);
});

test('a refusal without any place that is known has a reason alone', (t) => {
  const document = parseDocument('a:\n  b: 1\n');
  const refusal = refusalOf("[x][critical] error initializing configuration '': The table size must be a prime number\n");
  t.deepEqual(refusal, { reason: 'The table size must be a prime number', path: [] });
  t.is(refusedNode(document, refusal), undefined);
  t.is(refusedNode(parseDocument(''), refusal), undefined);
});
