/**
 * `npm run envoy:tls`: writes k8s/overlays/tls/bootstrap.yaml, which is envoy/bootstrap.yaml with envoy/tls.yaml merged into it. To be run after an edit of either.
 * `--check` writes nothing and fails when the file is another.
 */
import { mergeFragment } from './envoy-fragment.ts';
import { read, writeBootstrap } from './envoy-overlay.ts';

const command = 'npm run envoy:tls';
const head = `# Written by \`${command}\` from envoy/bootstrap.yaml and envoy/tls.yaml: edit those.\n`;
writeBootstrap('tls', { text: head + mergeFragment(read('envoy', 'bootstrap.yaml'), read('envoy', 'tls.yaml')), command });
