/** The fragment of component `origin` in a bootstrap of a test. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Document, parseDocument } from 'yaml';
import { mergeFragments } from '../../services/envoy-bootstrap/fragment.ts';
import { namedEntry } from '../../services/local/bootstrap.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const fragment = await readFile(path.join(root, 'k8s', 'components', 'origin', 'fragment-origin.yaml'), 'utf8');

interface OriginAddresses {
  /** Of the listener `fill`. */
  readonly fillPort: number;
  /** The port for prefetch jobs of each replica of the origin service. */
  readonly originPorts: readonly number[];
}

/** Adds the fragment, with ports of this machine. */
export function addOrigin(bootstrap: Document, { fillPort, originPorts }: OriginAddresses): void {
  const merged = parseDocument(mergeFragments(bootstrap.toString(), [{ name: 'origin', text: fragment }]));
  const address = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } });
  namedEntry(merged, ['static_resources', 'listeners'], 'fill').set('address', merged.createNode(address(fillPort)));
  setEndpoints(merged, 'kura-origin', originPorts);
  bootstrap.contents = merged.contents;
}

/** Gives a cluster an endpoint for each port. */
export function setEndpoints(bootstrap: Document, cluster: string, ports: readonly number[]): void {
  const endpoints = ports.map((port) => ({ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }));
  namedEntry(bootstrap, ['static_resources', 'clusters'], cluster).setIn(
    ['load_assignment', 'endpoints', 0, 'lb_endpoints'],
    bootstrap.createNode(endpoints),
  );
}
