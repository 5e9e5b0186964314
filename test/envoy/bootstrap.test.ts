import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { temporaryFolder } from '../support/service.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const source = await readFile(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8');

function check(file: string): { status: number | null; stderr: string } {
  return spawnSync(process.execPath, [path.join(root, 'scripts', 'checks', 'envoy-bootstrap.ts'), file], { encoding: 'utf8' });
}

test('the bootstrap as it stands passes', async (t) => {
  const file = path.join(await temporaryFolder(t), 'bootstrap.yaml');
  await writeFile(file, source);
  const { status, stderr } = check(file);
  t.is(stderr, '');
  t.is(status, 0);
});

for (const [from, to, breach] of [
  ['normalize_path: true', 'normalize_path: false', /dot segments would reach/],
  ['merge_slashes: false', 'merge_slashes: true', /keys with \/\/ would become others/],
  ['path_with_escaped_slashes_action: REJECT_REQUEST', 'path_with_escaped_slashes_action: KEEP_UNCHANGED', /two spellings/],
  ['prefix: x-kura-, ignore_case: true', 'prefix: x-other-, ignore_case: true', /x-kura-\* headers of clients are not stripped/],
  ['filename: /etc/envoy/grants.lua', 'filename: /etc/envoy/other.lua', /every request would ask authz/],
  ['path: [{ key: hit }]', 'path: [{ key: other }]', /not skipped just where grants\.lua says so/],
  ['overwrite: true', 'overwrite: false', /shards do not get the credential/],
  [
    'name: envoy.filters.http.credential_injector',
    'name: envoy.filters.http.other',
    /in the order "local_ratelimit lua ext_authz other router"/,
  ],
  ['failure_mode_allow: false', 'failure_mode_allow: true', /everything would be let in/],
  [
    'address: 127.0.0.1, port_value: 9901 } } # loopback',
    'address: 0.0.0.0, port_value: 9901 } } # loopback',
    /admin interface is not on loopback/,
  ],
  ['timeout: 0s # 15 s', 'timeout: 15s # 15 s', /route read has a timeout/],
  ['per_try_timeout: 0.75s # to the first', 'per_try_timeout: 1.4s # to the first', /clients give up before/],
  ['{ per_try_timeout: 1.4s }', '{ per_try_timeout: 1.4s, retry_on: 5xx }', /route write has retry_on: .*buffer every body/],
  ['regex: "GET|HEAD"', 'regex: "GET|HEAD|PUT"', /takes more than GET and HEAD/],
  ['delayed_close_timeout: 0s', 'delayed_close_timeout: 1s', /would lose the end of an answer/],
  ['substitution: /objects/', 'substitution: /direct/', /route read-direct does not hash by the path alone, as under \/objects\//],
  ['name: write-direct', 'name: other', /route write-direct has a timeout/],
  ['idle_timeout: 50s', 'idle_timeout: 500s', /would meet closing connections/],
  ['maglev.v3.Maglev', 'ring_hash.v3.RingHash', /not balanced by Maglev/],
  ['healthy_panic_threshold: { value: 0 }', 'healthy_panic_threshold: { value: 50 }', /panic mode is on/],
  ['enforcing_consecutive_5xx: 0', 'enforcing_consecutive_5xx: 100', /honest 507 would eject it/],
  ['service_name: kura-cache', 'service_name: other', /not the one that eds serves/],
  ['initial_fetch_timeout: 0s', 'initial_fetch_timeout: 15s', /go live without shards/],
  ['path: /run/kura/authz.sock', 'path: /run/other.sock', /not at authz's socket/],
  ['port_value: 18000', 'port_value: 18001', /not at eds' port/],
  ['status: "%RESPONSE_CODE%"', 'token: "%REQ(AUTHORIZATION)%"', /would hold tokens/],
  ['path: [{ key: counts_bytes }]', 'path: [{ key: another }]', /bytesPerSecond would limit nobody/],
  ['{ exact: /memory }', '{ prefix: / }', /lets the process be stopped or changed/],
  ['{ prefix: /drain_listeners }', '{ exact: /other }', /keeps probes, metrics or the drain out/],
  ['codec_type: HTTP1', 'codec_type: HTTP9', /Envoy refuses it: /],
] as const) {
  test(`${to} is refused with what would happen`, async (t) => {
    t.true(source.includes(from), `the bootstrap has no ${from} any more`);
    const file = path.join(await temporaryFolder(t), 'bootstrap.yaml');
    await writeFile(file, source.replace(from, to));
    const { status, stderr } = check(file);
    t.is(status, 1);
    t.regex(stderr, breach);
  });
}
