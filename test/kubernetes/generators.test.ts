/** `npm run k8s:disks` and `npm run k8s:zones`. test/kubernetes/components.plane.ts builds and applies what they write. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parse } from 'yaml';
import { disksComponent } from '../../scripts/k8s-disks.ts';
import { zonesComponent } from '../../scripts/k8s-zones.ts';
import { runProgram } from '../support/program.ts';
import { temporaryFolder } from '../support/service.ts';

interface Component {
  patches: { target?: { kind: string }; patch: string }[];
}

const generator = 'scripts/generate-components.ts';
const patchesOf = (text: string, kind: string): unknown[] =>
  (parse(text) as Component).patches
    .filter(({ target, patch }) => (target?.kind ?? parse(patch).kind) === kind)
    .map(({ patch }) => parse(patch));

test('eight disks are eight shards of one Pod, each with its ports, its mount and its directory', (t) => {
  const text = disksComponent(Array.from({ length: 8 }, (_, number) => `/mnt/nvme${number}`));
  const [daemonSet] = patchesOf(text, 'DaemonSet') as { spec: { template: { spec: { containers: [Record<string, object[]>] } } } }[];
  const { env = [], ports = [], volumeMounts = [] } = daemonSet?.spec.template.spec.containers[0] ?? {};
  const directories = Array.from({ length: 8 }, (_, number) => `/data/${number}/kura`).join(',');
  t.true(env.some((entry) => JSON.stringify(entry) === JSON.stringify({ name: 'KURA_CACHE_DIRECTORIES', value: directories })));
  t.is(ports.length, 17);
  t.is(volumeMounts.length, 9);
  const [service] = patchesOf(text, 'Service') as { spec: { ports: { port: number }[] } }[];
  t.deepEqual(
    service?.spec.ports.map(({ port }) => port),
    [7001, 7002, 7003, 7004, 7005, 7006, 7007],
  );
  t.is((patchesOf(text, 'NetworkPolicy')[0] as object[]).length, 14);
});

test('one disk needs no further port of the Service', (t) => {
  t.deepEqual(patchesOf(disksComponent(['/mnt/nvme0']), 'Service'), []);
});

for (const [disks, message] of [
  [['/mnt/a', '/mnt/b', '/mnt//a/'], 'the disk /mnt/a is listed twice; list each mount point once'],
  [['mnt/a'], 'the disk "mnt/a" is no mount point; it must be an absolute path of letters, digits and ./-_'],
  [['/mnt/../etc'], 'the disk "/mnt/../etc" is no mount point; it must be an absolute path of letters, digits and ./-_'],
  [[], '0 disks are listed; it must be 1 to 64'],
] as const) {
  test(`the disks ${disks.join(' ')} are refused`, (t) => {
    t.throws(() => disksComponent(disks), { message });
  });
}

for (const [zones, message] of [
  [['a', 'b', 'a'], 'the zone a is listed twice; list each zone once'],
  [['Zone A'], 'the zone "Zone A" is no name; it must have at most 42 lower-case letters, digits and -'],
  [[], 'no zone is listed; list the values of the label topology.kubernetes.io/zone'],
] as const) {
  test(`the zones ${zones.join(' ')} are refused`, (t) => {
    t.throws(() => zonesComponent(zones), { message });
  });
}

test('the program writes a folder, and nothing with one line for a wrong list', async (t) => {
  const folder = path.join(await temporaryFolder(t), 'disks');
  const refused = await runProgram(generator, ['disks', folder, '/mnt/a', '/mnt/a']);
  t.deepEqual([refused.status, refused.stderr], [1, 'the disk /mnt/a is listed twice; list each mount point once\n']);
  t.false(existsSync(folder));
  t.is((await runProgram(generator, ['disks', folder, '/mnt/a', '/mnt/b'])).status, 0);
  t.is(await readFile(path.join(folder, 'kustomization.yaml'), 'utf8'), disksComponent(['/mnt/a', '/mnt/b']));
  t.is((await runProgram(generator, ['disks'])).stderr, 'usage: npm run k8s:disks -- FOLDER VALUE …\n');
});
