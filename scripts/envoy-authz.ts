/**
 * `npm run envoy:authz`: writes k8s/overlays/authz-deployment/bootstrap.yaml: envoy/bootstrap.yaml with the cluster authz of cluster.yaml.
 * Run it after an edit of either file. `--check` writes nothing, and fails when the overlay's bootstrap differs.
 */
import { parseDocument, type YAMLMap } from 'yaml';
import { namedEntry } from '../services/local/bootstrap.ts';
import { yamlStyle } from './envoy-fragment.ts';
import { read, writeBootstrap } from './envoy-overlay.ts';

const command = 'npm run envoy:authz';
const overlay = 'authz-deployment';
const document = parseDocument(read('envoy', 'bootstrap.yaml'));
const authz = namedEntry(document, ['static_resources', 'clusters'], 'authz');
for (const pair of (parseDocument(read('k8s', 'overlays', overlay, 'cluster.yaml')).contents as YAMLMap).items) {
  const index = authz.items.findIndex(({ key }) => String(key) === String(pair.key));
  if (index < 0) authz.add(pair);
  else authz.items[index] = pair;
}
const head = `# Written by \`${command}\` from envoy/bootstrap.yaml and cluster.yaml: edit those.\n`;
writeBootstrap(overlay, { text: head + document.toString(yamlStyle), command });
