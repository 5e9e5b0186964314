/**
 * `npm run envoy:authz`: writes k8s/overlays/authz-deployment/bootstrap.yaml, which is envoy/bootstrap.yaml with the cluster of authz that stands in cluster.yaml beside it. To be run
 * after an edit of either. `--check` writes nothing and fails when the file is another.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseDocument, type YAMLMap } from 'yaml';
import { namedEntry } from '../services/local/bootstrap.ts';

const root = path.resolve(import.meta.dirname, '..');
const overlay = path.join(root, 'k8s', 'overlays', 'authz-deployment');
const target = path.join(overlay, 'bootstrap.yaml');
const head = '# Written by `npm run envoy:authz` from envoy/bootstrap.yaml and cluster.yaml: edit those.\n';

const document = parseDocument(readFileSync(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8'));
const authz = namedEntry(document, ['static_resources', 'clusters'], 'authz');
for (const pair of (parseDocument(readFileSync(path.join(overlay, 'cluster.yaml'), 'utf8')).contents as YAMLMap).items) {
  authz.delete(pair.key);
  authz.add(pair);
}
const wanted = head + document.toString({ lineWidth: 0 });

if (!process.argv.includes('--check')) writeFileSync(target, wanted);
else if (!existsSync(target) || readFileSync(target, 'utf8') !== wanted) {
  console.error(`${path.relative(root, target)} is not what \`npm run envoy:authz\` writes`);
  process.exitCode = 1;
}
