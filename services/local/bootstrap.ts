/** Pure: replaces the addresses and paths in the operators' Envoy bootstrap by those of a local system. */
import { type Document, isMap, isSeq, parseDocument, visit, type YAMLMap } from 'yaml';
import { mergeFragments } from '../envoy-bootstrap/fragment.ts';

interface LocalAddresses {
  readonly objectsPort: number;
  readonly metricsPort: number;
  readonly adminPort: number;
  readonly authzSocket: string;
  readonly edsPort: number;
  /** The text of the fragment of component `console`, and the port of its data sets. */
  readonly console?: { readonly fragment: string; readonly port: number };
  /** The path of envoy/grants.lua. */
  readonly grantsFile: string;
  /** The path of envoy/grpc.lua. */
  readonly grpcFile: string;
  /** Undefined for a system without origins. */
  readonly origin?: OriginAddresses | undefined;
}

interface OriginAddresses {
  /** The text of the fragment of component `origin`. */
  readonly fragment: string;
  /** Of Envoy's listener `fill`. */
  readonly fillPort: number;
  readonly prefetchPort: number;
}

const loopback = '127.0.0.1';
const cgroupMonitor = 'envoy.resource_monitors.cgroup_memory';

/** Replaces addresses and file paths in `text`, and removes the limit of a container. Throws an Error that names a missing entry. */
export function localBootstrap(text: string, addresses: LocalAddresses): string {
  const { origin, console } = addresses;
  const fragments = [
    ...(origin === undefined ? [] : [{ name: 'fragment-origin.yaml', text: origin.fragment }]),
    ...(console === undefined ? [] : [{ name: 'fragment-console.yaml', text: console.fragment }]),
  ];
  const document = parseDocument(fragments.length === 0 ? text : mergeFragments(text, fragments));
  const [fault] = document.errors;
  if (fault !== undefined) throw new Error(`the Envoy bootstrap is not valid YAML: ${fault.message}`);
  const listener = (name: string): YAMLMap => namedEntry(document, ['static_resources', 'listeners'], name);
  const setEndpoint = (cluster: string, address: unknown): void => {
    namedEntry(document, ['static_resources', 'clusters'], cluster).setIn(
      ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'],
      document.createNode(address),
    );
  };
  const setFile = (filter: string, at: readonly (string | number)[], file: string): void => {
    namedEntry(objectsManager(document), ['http_filters'], filter).setIn(['typed_config', ...at], file);
  };

  document.setIn(['admin', 'address'], document.createNode(socketAddress(addresses.adminPort)));
  listener('objects').set('address', document.createNode(socketAddress(addresses.objectsPort)));
  listener('metrics').set('address', document.createNode(socketAddress(addresses.metricsPort)));
  setFile('kura.grants', ['extension_config', 'typed_config', 'default_source_code', 'filename'], addresses.grantsFile);
  const action = ['xds_matcher', 'matcher_list', 'matchers', 0, 'on_match', 'action', 'typed_config'];
  const firstFilter = ['filter_chain', 'typed_config', 0, 'typed_config'];
  setFile('kura.grpc', [...action, ...firstFilter, 'default_source_code', 'filename'], addresses.grpcFile);
  setEndpoint('authz', { pipe: { path: addresses.authzSocket } });
  if (console !== undefined) setEndpoint('kura-console', socketAddress(console.port));
  setEndpoint('eds', socketAddress(addresses.edsPort));
  setEndpoint('admin', socketAddress(addresses.adminPort));
  if (origin !== undefined) {
    listener('fill').set('address', document.createNode(socketAddress(origin.fillPort)));
    setEndpoint('kura-origin', socketAddress(origin.prefetchPort));
  }
  removeContainerLimit(document);
  return document.toString();
}

/** Removes the monitor of the container's memory and its triggers. Without a control group for memory, Envoy does not start with them. */
export function removeContainerLimit(bootstrap: Document): void {
  visit(bootstrap, { Map: (_key, node) => (node.get('name') === cgroupMonitor ? visit.REMOVE : undefined) });
}

/** Returns the HTTP connection manager for the requests of workloads. */
export function objectsManager(bootstrap: Pick<YAMLMap, 'getIn'>): YAMLMap {
  const listener = namedEntry(bootstrap, ['static_resources', 'listeners'], 'objects');
  const manager = listener.getIn(['filter_chains', 0, 'filters', 0, 'typed_config']);
  if (!isMap(manager)) throw new Error('the listener "objects" has no HTTP connection manager');
  return manager;
}

/** Returns the entry `name` of the list at `at`. Throws an Error if it does not exist. */
export function namedEntry(node: Pick<YAMLMap, 'getIn'>, at: readonly (string | number)[], name: string): YAMLMap {
  const list = node.getIn(at);
  const found = isSeq(list) ? list.items.find((item) => isMap(item) && item.get('name') === name) : undefined;
  if (!isMap(found)) throw new Error(`the Envoy bootstrap has no entry "${name}" under ${at.join('.')}`);
  return found;
}

function socketAddress(port: number): unknown {
  return { socket_address: { address: loopback, port_value: port } };
}
