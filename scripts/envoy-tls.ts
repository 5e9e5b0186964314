/**
 * `npm run envoy:tls`: writes k8s/overlays/tls/bootstrap.yaml, which is envoy/bootstrap.yaml with envoy/tls.yaml merged into it. To be run after an edit of either.
 * `--check` writes nothing and fails when the file is another.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { mergeFragment } from './envoy-fragment.ts';

const root = path.resolve(import.meta.dirname, '..');
const read = (name: string): string => readFileSync(path.join(root, 'envoy', name), 'utf8');
const target = path.join(root, 'k8s', 'overlays', 'tls', 'bootstrap.yaml');
const head = '# Written by `npm run envoy:tls` from envoy/bootstrap.yaml and envoy/tls.yaml: edit those.\n';
const wanted = head + mergeFragment(read('bootstrap.yaml'), read('tls.yaml'));

if (!process.argv.includes('--check')) writeFileSync(target, wanted);
else if (!existsSync(target) || readFileSync(target, 'utf8') !== wanted) {
  console.error(`${path.relative(root, target)} is not what \`npm run envoy:tls\` writes`);
  process.exitCode = 1;
}
