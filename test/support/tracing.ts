/** The tracing fragment in a bootstrap of a test. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { mergeFragments } from '../../services/envoy-bootstrap/fragment.ts';
import { namedEntry } from '../../services/local/bootstrap.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const fragment = await readFile(path.join(root, 'k8s', 'components', 'tracing', 'fragment-tracing.yaml'), 'utf8');

/** Adds the fragment, with the collector at a port of this machine. */
export function addTracing(bootstrap: Document, collectorPort: number): void {
  const merged = parseDocument(mergeFragments(bootstrap.toString(), [{ name: 'tracing', text: fragment }]));
  const address = { socket_address: { address: '127.0.0.1', port_value: collectorPort } };
  namedEntry(merged, ['static_resources', 'clusters'], 'tracing').setIn(
    ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'],
    merged.createNode(address),
  );
  bootstrap.contents = merged.contents;
}
