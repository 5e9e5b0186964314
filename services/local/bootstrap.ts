/** Pure: the Envoy bootstrap that operators edit, moved to the addresses of one local system. */
import { isMap, isSeq, parseDocument, type YAMLMap } from 'yaml';

interface LocalAddresses {
  readonly objectsPort: number;
  readonly metricsPort: number;
  readonly adminPort: number;
  readonly authzSocket: string;
  readonly edsPort: number;
  /** The file of envoy/grants.lua. */
  readonly grantsFile: string;
}

const loopback = '127.0.0.1';

/** Replaces the addresses in `text`, and the path of grants.lua, and nothing else. Throws an Error that names what the bootstrap lacks. */
export function localBootstrap(text: string, addresses: LocalAddresses): string {
  const document = parseDocument(text);
  const [fault] = document.errors;
  if (fault !== undefined) throw new Error(`the Envoy bootstrap is not YAML: ${fault.message}`);
  const listener = (name: string): YAMLMap => namedEntry(document, ['static_resources', 'listeners'], name);
  const setEndpoint = (cluster: string, address: unknown): void => {
    namedEntry(document, ['static_resources', 'clusters'], cluster).setIn(
      ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'],
      document.createNode(address),
    );
  };

  document.setIn(['admin', 'address'], document.createNode(socketAddress(addresses.adminPort)));
  listener('objects').set('address', document.createNode(socketAddress(addresses.objectsPort)));
  listener('metrics').set('address', document.createNode(socketAddress(addresses.metricsPort)));
  const lua = namedEntry(objectsManager(document), ['http_filters'], 'envoy.filters.http.lua');
  lua.setIn(['typed_config', 'default_source_code', 'filename'], addresses.grantsFile);
  setEndpoint('authz', { pipe: { path: addresses.authzSocket } });
  setEndpoint('eds', socketAddress(addresses.edsPort));
  setEndpoint('admin', socketAddress(addresses.adminPort));
  return document.toString();
}

/** The HTTP connection manager that workloads speak to. */
export function objectsManager(bootstrap: Pick<YAMLMap, 'getIn'>): YAMLMap {
  const listener = namedEntry(bootstrap, ['static_resources', 'listeners'], 'objects');
  const manager = listener.getIn(['filter_chains', 0, 'filters', 0, 'typed_config']);
  if (!isMap(manager)) throw new Error('the listener "objects" has no HTTP connection manager');
  return manager;
}

/** The entry of that name in the list at `at`. Throws an Error that names what is not there. */
export function namedEntry(node: Pick<YAMLMap, 'getIn'>, at: readonly (string | number)[], name: string): YAMLMap {
  const list = node.getIn(at);
  const found = isSeq(list) ? list.items.find((item) => isMap(item) && item.get('name') === name) : undefined;
  if (!isMap(found)) throw new Error(`the Envoy bootstrap has no entry "${name}" under ${at.join('.')}`);
  return found;
}

function socketAddress(port: number): unknown {
  return { socket_address: { address: loopback, port_value: port } };
}
