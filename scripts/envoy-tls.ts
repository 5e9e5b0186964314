/**
 * `npm run envoy:tls`: writes k8s/overlays/tls/bootstrap.yaml: envoy/bootstrap.yaml with envoy/tls.yaml merged into it.
 * Run it after an edit of either file. `--check` writes nothing, and fails when the overlay's bootstrap differs.
 */
import { mergeFragment } from './envoy-fragment.ts';
import { read, writeBootstrap } from './envoy-overlay.ts';

const command = 'npm run envoy:tls';
const head = `# Written by \`${command}\` from envoy/bootstrap.yaml and envoy/tls.yaml: edit those.\n`;
writeBootstrap('tls', { text: head + mergeFragment(read('envoy', 'bootstrap.yaml'), read('envoy', 'tls.yaml')), command });
