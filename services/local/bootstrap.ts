/** Pure: the Envoy bootstrap that operators edit, moved to the addresses of one local system. */
import { isMap, isSeq, parseDocument, type YAMLMap } from 'yaml';

export interface LocalAddresses {
  readonly objectsPort: number;
  readonly metricsPort: number;
  readonly adminPort: number;
  readonly authzSocket: string;
  readonly edsPort: number;
  /** The file of envoy/grants.lua. */
  readonly grantsFile: string;
  /** In the place of envoy/credential.yaml. */
  readonly credentialFile: string;
}

const loopback = '127.0.0.1';

/** Replaces the addresses in `text`, and where its other files lie, and nothing else. Throws an Error that names what the bootstrap lacks. */
export function localBootstrap(text: string, addresses: LocalAddresses): string {
  const document = parseDocument(text);
  const [fault] = document.errors;
  if (fault !== undefined) throw new Error(`the Envoy bootstrap is not YAML: ${fault.message}`);
  const named = (kind: 'listeners' | 'clusters', name: string): YAMLMap => {
    const list = document.getIn(['static_resources', kind]);
    const found = isSeq(list) ? list.items.find((item) => isMap(item) && item.get('name') === name) : undefined;
    if (!isMap(found)) throw new Error(`the Envoy bootstrap has no entry "${name}" under static_resources.${kind}`);
    return found;
  };
  const setEndpoint = (cluster: string, address: unknown): void => {
    named('clusters', cluster).setIn(
      ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'],
      document.createNode(address),
    );
  };

  document.setIn(['admin', 'address'], document.createNode(socketAddress(addresses.adminPort)));
  named('listeners', 'objects').set('address', document.createNode(socketAddress(addresses.objectsPort)));
  named('listeners', 'metrics').set('address', document.createNode(socketAddress(addresses.metricsPort)));
  const setFile = (filter: string, at: readonly string[], file: string): void => {
    const list = named('listeners', 'objects').getIn(['filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters']);
    const found = isSeq(list) ? list.items.find((item) => isMap(item) && item.get('name') === filter) : undefined;
    if (!isMap(found)) throw new Error(`the Envoy bootstrap has no filter "${filter}" in its listener "objects"`);
    found.setIn(['typed_config', ...at], file);
  };
  setFile('envoy.filters.http.lua', ['default_source_code', 'filename'], addresses.grantsFile);
  const secret = ['credential', 'typed_config', 'credential', 'sds_config', 'path_config_source', 'path'];
  setFile('envoy.filters.http.credential_injector', secret, addresses.credentialFile);
  setEndpoint('authz', { pipe: { path: addresses.authzSocket } });
  setEndpoint('eds', socketAddress(addresses.edsPort));
  setEndpoint('admin', socketAddress(addresses.adminPort));
  return document.toString();
}

function socketAddress(port: number): unknown {
  return { socket_address: { address: loopback, port_value: port } };
}
