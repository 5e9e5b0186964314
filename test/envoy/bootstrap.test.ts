import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parse } from 'yaml';
import { bootstrapRules } from '../../scripts/checks/bootstrap-rules.ts';
import { breaches, Condition, type Row, valueAt } from '../../scripts/checks/expectation.ts';
import { temporaryFolder } from '../support/service.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');

function check(file: string): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, [path.join(root, 'scripts', 'checks', 'envoy-bootstrap.ts'), file], { encoding: 'utf8' });
}

test('the committed bootstrap passes', async (t) => {
  const file = path.join(await temporaryFolder(t), 'bootstrap.yaml');
  await writeFile(file, source);
  const { status, stderr } = check(file);
  t.is(stderr, '');
  t.is(status, 0);
});

/** Changes what `row` requires, and nothing that another row requires. */
function breakRow(bootstrap: unknown, [at, expected, , find]: Row): void {
  const cut = at.lastIndexOf('.');
  const [parent, key] = [valueAt(bootstrap, at.slice(0, cut)) as Record<string, unknown>, at.slice(cut + 1)];
  const kind = expected instanceof Condition ? expected.kind : undefined;
  const operand = expected instanceof Condition ? expected.operand : undefined;
  const list = valueAt(bootstrap, at) as unknown[];
  if (find?.name === 'authorizationFields') list.push({ token: '%REQ(AUTHORIZATION)%' });
  else if (find?.name === 'termsFields') list.push({ terms: '%REQ(X-KURA-TERMS)%' });
  else if (find?.name === 'longestFailure') (valueAt(bootstrap, `${at}.retry_policy`) as Record<string, unknown>).per_try_timeout = '60s';
  else if (key === 'retry_on' && expected === undefined) Object.assign(parent, { retry_on: '5xx', num_retries: 0 });
  else if (at.endsWith('http_filters[*].name')) (valueAt(bootstrap, at.slice(0, at.indexOf('[*]'))) as unknown[]).reverse();
  else if (kind === 'denying') list.push({ exact: operand });
  else if (kind === 'allowing') {
    parent[key] = (list as { exact?: string; prefix?: string }[]).filter(
      ({ exact, prefix }) => exact !== operand && !(prefix !== undefined && String(operand).startsWith(prefix)),
    );
  } else if (kind === 'listWith') parent[key] = list.filter((entry) => JSON.stringify(entry) !== JSON.stringify(operand));
  else if (kind === 'below' || kind === 'belowValueOf' || kind === 'atMost') parent[key] = '9999s';
  else if (kind === 'endingIn') parent[key] = 'other';
  else parent[key] = typeof expected === 'boolean' ? !expected : typeof expected === 'number' ? expected + 1 : 'other';
}

/** A copy without shared parts: an alias in YAML is one object in two places. */
function copy(): unknown {
  return JSON.parse(JSON.stringify(parse(source)));
}

test('the table has a row for each setting that kura depends on, and the bootstrap breaks none', (t) => {
  t.deepEqual(breaches(copy(), bootstrapRules), []);
  t.is(bootstrapRules.length, 81);
});

for (const [index, row] of bootstrapRules.entries()) {
  const [at, expected, consequence, find] = row;
  const name = at.split('.').slice(-2).join('.');
  test(`row ${index}: a broken ${name} is reported alone: ${consequence}`, (t) => {
    const bootstrap = copy();
    breakRow(bootstrap, row);
    const alone = breaches(bootstrap, [row]);
    t.is(alone.length, 1);
    t.true(alone[0]?.startsWith(`${at}: is `), alone[0]);
    t.true(alone[0]?.includes('; must be '), alone[0]);
    t.true(alone[0]?.endsWith(`: ${consequence}`), alone[0]);
    t.deepEqual(breaches(bootstrap, bootstrapRules), alone);
  });

  const passes = expected === undefined || find?.name === 'authorizationFields' || find?.name === 'termsFields';
  test(`row ${index}: an empty bootstrap ${passes ? 'keeps' : 'breaks'} ${name}`, (t) => {
    t.is(breaches({}, [row]).length, passes ? 0 : 1);
  });
}

for (const [from, to, breach] of [
  ['normalize_path: true', 'normalize_path: false', /normalize_path: is false; must be true: dot segments would reach/],
  ['merge_slashes: false', 'merge_slashes: true', /merge_slashes: is true; must be false: a key with \/\/ would become another/],
  ['path_with_escaped_slashes_action: REJECT_REQUEST', 'path_with_escaped_slashes_action: KEEP_UNCHANGED', /two spellings/],
  ['prefix: x-kura-\n', 'prefix: x-other-\n', /a client could send x-kura-\* headers/],
  ['contains: "%"', 'prefix: "%"', /value_match: is .*; must be .*: one key would have several spellings/],
  ['filename: /etc/envoy/keys.lua', 'filename: /etc/envoy/grpc.lua', /one key would have several spellings, and one object for each/],
  ['name: kura.keys', 'name: kura.other', /a request could pass unchecked/],
  ['filename: /etc/envoy/grpc.lua', 'filename: /etc/envoy/keys.lua', /a refused request with a gRPC content type would get 200/],
  ['header_name: grpc-status', 'header_name: grpc-message', /a refused request with a gRPC content type would get 200/],
  ['value: "%RESPONSE_CODE%"\n', 'value: "200"\n', /grpc\.lua could not restore the status/],
  ['filename: /etc/envoy/grants.lua', 'filename: /etc/envoy/other.lua', /every request would ask authz/],
  ['header_name: x-kura-grant', 'header_name: x-kura-lent', /learn no grant/],
  ['header_name: x-kura-caller', 'header_name: x-kura-other', /skip authz for requests that no grant covers/],
  ['contains: /\n', 'prefix: /\n', /skip authz for requests that no grant covers/],
  ['name: kura.authz', 'name: kura.free', /name: is \[.*"kura\.free".*a request could pass unchecked/],
  [
    'name: envoy.filters.http.ext_authz',
    'name: envoy.filters.http.other',
    /name: is "envoy\.filters\.http\.other"; must be .*a request could pass unchecked/,
  ],
  ['failure_mode_allow: false', 'failure_mode_allow: true', /would allow every request/],
  ['address: 127.0.0.1\n', 'address: 0.0.0.0\n', /address: is "0\.0\.0\.0"; must be "127\.0\.0\.1": any client in the network could stop/],
  [
    'timeout: 0s # The default of 15 s',
    'timeout: 15s # The default of 15 s',
    /routes\[read\]\.route\.timeout: is "15s"; must be "0s": Envoy would cut/,
  ],
  ['per_try_timeout: 0.75s', 'per_try_timeout: 1.4s', /routes\[read\]\.route: is "3\.8s"; must be at most 2\.5s: clients would give up/],
  [
    `${' '.repeat(30)}per_try_timeout: 1.4s\n`,
    `${' '.repeat(30)}per_try_timeout: 1.4s\n${' '.repeat(30)}retry_on: 5xx\n`,
    /routes\[write\]\.route\.retry_policy\.retry_on: is "5xx"; must be missing: Envoy would buffer the body/,
  ],
  [
    'retry_on: connect-failure,refused-stream\n',
    'retry_on: connect-failure,refused-stream,reset\n',
    /routes\[through\]\.route\.retry_policy\.retry_on: is .*a failed fetch from an origin would run again/,
  ],
  ['per_try_timeout: 30s', 'per_try_timeout: 300s', /routes\[through\]\.route: is "601s"; must be at most 61s: clients would give up/],
  ['regex: "^/(direct|through)/"', 'regex: "^/direct/"', /routes\[through\]\.route\.hash_policy: is .*keys would move/],
  ['name: write-through', 'name: another', /routes\[write-through\]\.route\.timeout: is missing; must be "0s"/],
  ['regex: "GET|HEAD"', 'regex: "GET|HEAD|PUT"', /would repeat requests that must not run twice/],
  ['delayed_close_timeout: 0s', 'delayed_close_timeout: 1s', /would lose the end of a response/],
  ['substitution: /objects/', 'substitution: /direct/', /routes\[read-direct\]\.route\.hash_policy: is .*keys would move/],
  ['name: write-direct', 'name: other', /routes\[write-direct\]\.route\.timeout: is missing; must be "0s"/],
  ['idle_timeout: 50s', 'idle_timeout: 500s', /is "500s"; must be below 120s: requests would fail on connections that a shard is closing/],
  ['maglev.v3.Maglev', 'ring_hash.v3.RingHash', /must be a name that ends in \.maglev\.v3\.Maglev: keys would move/],
  [
    'healthy_panic_threshold:\n          value: 0',
    'healthy_panic_threshold:\n          value: 50',
    /value: is 50; must be 0: .*dead shards/,
  ],
  ['exact: kura-cache\n', 'prefix: kura\n', /service_name_matcher: is .*to any Pod that got the address of a former shard/],
  ['enforcing_consecutive_5xx: 0', 'enforcing_consecutive_5xx: 100', /correctly returns 507/],
  ['service_name: kura-cache', 'service_name: other', /service_name: is "other"; must be "kura-cache": eds would send no shards/],
  ['initial_fetch_timeout: 0s', 'initial_fetch_timeout: 15s', /ready without shards/],
  ['path: /run/kura/authz.sock', 'path: /run/other.sock', /could not reach authz/],
  ['port_value: 18000', 'port_value: 18001', /port_value: is 18001; must be 18000: Envoy could not reach eds/],
  [
    'caller: "%CEL(',
    'terms: "%REQ(X-KURA-TERMS)%"\n                          caller: "%CEL(',
    /access_log: is .*X-KURA-TERMS.*would contain signed terms/,
  ],
  ["request.headers['x-kura-caller'] : null", "'' : null", /json_format\.caller: is .*would show no caller, or one that a client names/],
  ['exact: HEAD', 'exact: PUT', /or_filter\.filters: is .*nobody could find the writer of an object/],
  [
    'listener_filters_timeout: 5s',
    'listener_filters_timeout: 60s',
    /is "60s"; must be at most 10s: a silent connection would cost minutes/,
  ],
  ['saturation_threshold: 0.9', 'saturation_threshold: 1', /triggers: is .*idle connections would keep others out/],
  ['value: 0.95', 'value: 1', /triggers: is .*the kernel would kill Envoy/],
  ['[x-kura-caller]', '[x-kura-namespace]', /must be a list with x-kura-caller: authz could not count the bytes/],
  ['status: "%RESPONSE_CODE%"', 'token: "%REQ(AUTHORIZATION)%"', /access_log: is .*AUTHORIZATION.*would contain tokens/],
  ['- key: counts_bytes\n', '- key: another\n', /bytesPerSecond would limit no namespace/],
  [
    '- exact: /memory\n',
    '- prefix: /\n',
    /must be a list, not empty, that does not allow \/quitquitquit: other containers of the Pod could stop/,
  ],
  ['- prefix: /drain_listeners\n', '- exact: /other\n', /must be a list that allows \/drain_listeners: probes, metrics or the drain/],
  ['codec_type: HTTP1', 'codec_type: HTTP9', /envoy --mode validate: is an error; must be accepted: /],
] as const) {
  test(`${to.trim()} is rejected with its consequence`, async (t) => {
    t.true(source.includes(from), `the bootstrap has no ${from} any more`);
    const file = path.join(await temporaryFolder(t), 'bootstrap.yaml');
    await writeFile(file, source.replace(from, to));
    const { status, stderr } = check(file);
    t.is(status, 1);
    t.regex(stderr, breach);
  });
}
