/**
 * `npm run envoy:authz`: writes k8s/overlays/authz-deployment/bootstrap.yaml. That is envoy/bootstrap.yaml with the authz cluster of
 * cluster.yaml in the same folder. Run it after an edit of either file. `--check` writes nothing and fails if the file is outdated.
 */
import { parseDocument, type YAMLMap } from 'yaml';
import { namedEntry } from '../services/local/bootstrap.ts';
import { read, writeBootstrap } from './envoy-overlay.ts';

const command = 'npm run envoy:authz';
const overlay = 'authz-deployment';
const document = parseDocument(read('envoy', 'bootstrap.yaml'));
const authz = namedEntry(document, ['static_resources', 'clusters'], 'authz');
for (const pair of (parseDocument(read('k8s', 'overlays', overlay, 'cluster.yaml')).contents as YAMLMap).items) {
  authz.delete(pair.key);
  authz.add(pair);
}
const head = `# Written by \`${command}\` from envoy/bootstrap.yaml and cluster.yaml: edit those.\n`;
writeBootstrap(overlay, { text: head + document.toString({ lineWidth: 0 }), command });
