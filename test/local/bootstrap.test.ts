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
  grpcFile: '/g/grpc.lua',
};

test('only the addresses, the file paths and the limit of the container in the operators’ bootstrap change', (t) => {
  const isContainerLimit = (entry: unknown): boolean => (entry as { name?: unknown }).name === 'envoy.resource_monitors.cgroup_memory';
  const withoutAddresses = (text: string): unknown =>
    JSON.parse(
      JSON.stringify(parse(text), (key, value) => {
        if (['address', 'filename'].includes(key)) return undefined;
        return Array.isArray(value) ? value.filter((entry) => !isContainerLimit(entry)) : value;
      }),
    );
  t.true(source.includes('cgroup_memory'));
  const local = localBootstrap(source, addresses);
  t.deepEqual(withoutAddresses(local), withoutAddresses(source));
  const found = JSON.stringify(parse(local));
  for (const port of [1, 2, 3, 4]) t.true(found.includes(`"address":"127.0.0.1","port_value":${port}`), String(port));
  t.true(found.includes('"path":"/s/authz.sock"'));
  for (const name of ['grants', 'grpc']) t.true(found.includes(`"filename":"/g/${name}.lua"`), name);
  t.false(found.includes('0.0.0.0') || found.includes('cgroup'));
});

test('the bootstrap has the fragments of the components origin and console with local addresses', async (t) => {
  const fragment = (name: string): Promise<string> =>
    readFile(path.resolve(import.meta.dirname, `../../k8s/components/${name}/fragment-${name}.yaml`), 'utf8');
  const console = { fragment: await fragment('console'), port: 7 };
  const origin = { fragment: await fragment('origin'), fillPort: 5, prefetchPort: 6 };
  const portsOf = (local: string): number[] =>
    [...JSON.stringify(parse(local)).matchAll(/"address":"127.0.0.1","port_value":(\d+)/g)].map(([, port]) => Number(port)).sort();
  const both = localBootstrap(source, { ...addresses, origin, console });
  t.deepEqual([...new Set(portsOf(both))], [1, 2, 3, 4, 5, 6, 7]);
  t.false(both.includes('0.0.0.0'));
  t.deepEqual([...new Set(portsOf(localBootstrap(source, { ...addresses, console })))], [1, 2, 3, 4, 7]);
});

test('a bootstrap without a required entry is rejected with the name of the entry', (t) => {
  t.throws(() => localBootstrap(source.replace('- name: metrics', '- name: renamed'), addresses), {
    message: /no entry "metrics" under static_resources.listeners/,
  });
  t.throws(() => localBootstrap(source.replace('- name: eds', '- name: renamed'), addresses), {
    message: /no entry "eds" under static_resources.clusters/,
  });
  t.throws(() => localBootstrap('static_resources: [', addresses), { message: /is not valid YAML/ });
});
