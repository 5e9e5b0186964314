/** The tracing fragment in a bootstrap of a test. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { mergeFragment } from '../../scripts/envoy-fragment.ts';
import { namedEntry } from '../../services/local/bootstrap.ts';

const fragment = await readFile(path.resolve(import.meta.dirname, '..', '..', 'envoy', 'tracing.yaml'), 'utf8');

/** Adds the fragment, with the collector at a port of this machine. */
export function addTracing(bootstrap: Document, collectorPort: number): void {
  const merged = parseDocument(mergeFragment(bootstrap.toString(), fragment));
  const address = { socket_address: { address: '127.0.0.1', port_value: collectorPort } };
  namedEntry(merged, ['static_resources', 'clusters'], 'tracing').setIn(
    ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'],
    merged.createNode(address),
  );
  bootstrap.contents = merged.contents;
}
