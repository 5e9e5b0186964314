/**
 * Writes components of k8s for your disks and zones:
 * `npm run k8s:disks -- FOLDER /mnt/nvme0 /mnt/nvme1 …` and `npm run k8s:zones -- FOLDER zone-a zone-b …`.
 * Without arguments it writes the examples in k8s/components. `--check` writes nothing and fails when one of them differs.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { disksComponent } from './k8s-disks.ts';
import { zonesComponent } from './k8s-zones.ts';

const root = path.resolve(import.meta.dirname, '..');
const examples = [
  { kind: 'disks', folder: path.join(root, 'k8s/components/disks'), values: ['/mnt/nvme0', '/mnt/nvme1'] },
  { kind: 'zones', folder: path.join(root, 'k8s/components/zone-per-deployment'), values: ['zone-a', 'zone-b', 'zone-c'] },
];
const [kind, folder, ...values] = process.argv.slice(2);
try {
  if (kind === undefined || kind === '--check') for (const example of examples) publish(example);
  else if (folder === undefined) throw new Error(`usage: npm run k8s:${kind} -- FOLDER VALUE …`);
  else publish({ kind, folder: path.resolve(process.env.INIT_CWD ?? '.', folder), values });
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}

function publish({ kind, folder, values }: { kind: string; folder: string; values: readonly string[] }): void {
  const files = kind === 'disks' ? { 'kustomization.yaml': disksComponent(values) } : zonesComponent(values);
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder, name);
    if (process.argv.includes('--check')) check(file, text);
    else {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
  }
}

function check(file: string, text: string): void {
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
  console.error(`${path.relative(root, file)} is not what the generator makes: run \`npm run generate\``);
  process.exitCode = 1;
}
