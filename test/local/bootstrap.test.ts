import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parse } from 'yaml';
import { localBootstrap } from '../../services/local/bootstrap.ts';

const source = await readFile(path.resolve(import.meta.dirname, '..', '..', 'envoy', 'bootstrap.yaml'), 'utf8');
const addresses = {
  objectsPort: 1,
  metricsPort: 2,
  adminPort: 3,
  authzSocket: '/s/authz.sock',
  edsPort: 4,
  grantsFile: '/g/grants.lua',
};

test('only addresses of the operators’ bootstrap change, and the path of grants.lua', (t) => {
  const withoutAddresses = (text: string): unknown =>
    JSON.parse(JSON.stringify(parse(text), (key, value) => (['address', 'filename'].includes(key) ? undefined : value)));
  const local = localBootstrap(source, addresses);
  t.deepEqual(withoutAddresses(local), withoutAddresses(source));
  const found = JSON.stringify(parse(local));
  for (const port of [1, 2, 3, 4]) t.true(found.includes(`"address":"127.0.0.1","port_value":${port}`), String(port));
  t.true(found.includes('"path":"/s/authz.sock"'));
  t.true(found.includes('"filename":"/g/grants.lua"'));
  t.false(found.includes('0.0.0.0'));
});

test('a bootstrap without a part that the local system needs is refused with its name', (t) => {
  t.throws(() => localBootstrap(source.replace('- name: metrics', '- name: renamed'), addresses), {
    message: /no entry "metrics" under static_resources.listeners/,
  });
  t.throws(() => localBootstrap(source.replace('- name: eds', '- name: renamed'), addresses), {
    message: /no entry "eds" under static_resources.clusters/,
  });
  t.throws(() => localBootstrap('static_resources: [', addresses), { message: /is not YAML/ });
});
