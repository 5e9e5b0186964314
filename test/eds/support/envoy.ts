/** A real Envoy that follows the cache Service in each way that it can: EDS and ADS, state of the world and delta. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { stringify } from 'yaml';
import { envoyBinary } from '../../../services/local/envoy-binary.ts';
import { waitFor } from '../../support/wait.ts';

const root = path.resolve(import.meta.dirname, '..', '..', '..');

/** Envoy allows one ADS a process, so `ads` is either kind. */
export const protocols = ['eds', 'delta-eds', 'ads'] as const;

export interface Envoy {
  readonly adminUrl: string;
  readonly pid: number;
  /** hash_key → `address health` of the cluster that follows by this protocol. */
  table(protocol: (typeof protocols)[number]): Promise<Record<string, string>>;
  stat(name: string): Promise<number>;
  stop(): Promise<void>;
}

interface EnvoyOptions {
  readonly folder: string;
  /** Addresses of eds replicas; Envoy takes any. */
  readonly eds: readonly string[];
  readonly zone?: string;
  readonly adsKind?: 'GRPC' | 'DELTA_GRPC';
  readonly follow?: readonly (typeof protocols)[number][];
  /** Also serves HTTP there, each path to the host that Maglev gives it. */
  readonly listenPort?: number;
  /** Of the cluster that is eds. */
  readonly transportSocket?: object;
}

export async function startEnvoy({
  folder,
  eds,
  zone = 'a',
  adsKind = 'GRPC',
  follow = protocols,
  listenPort,
  transportSocket,
}: EnvoyOptions): Promise<Envoy> {
  const addressFile = path.join(folder, 'admin-address');
  const config = path.join(folder, 'envoy.yaml');
  await writeFile(config, stringify(bootstrap({ eds, adsKind, follow, listenPort, transportSocket })));
  const identity = ['--service-node', 'envoy-test', '--service-cluster', 'test', '--service-zone', zone];
  const args = [
    '-c',
    config,
    ...identity,
    '--concurrency',
    '1',
    '--disable-hot-restart',
    '--log-level',
    'error',
    '--admin-address-path',
    addressFile,
  ];
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', binary, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (chunk) => (errors += chunk));
  const adminUrl = await waitFor('Envoy to be up', async () => {
    if (child.exitCode !== null) throw new Error(errors);
    // Envoy creates the file before it writes the address.
    const address = await readFile(addressFile, 'utf8');
    return address === '' ? undefined : `http://${address}`;
  });
  const get = async (page: string): Promise<string> => (await fetch(adminUrl + page, { signal: AbortSignal.timeout(5_000) })).text();
  return {
    adminUrl,
    pid: child.pid as number,
    table: async (protocol) => {
      const [clusters, dump] = await Promise.all([get('/clusters?format=json'), get('/config_dump?include_eds')]);
      return readTable(JSON.parse(clusters) as Clusters, JSON.parse(dump) as Dump, protocol);
    },
    stat: async (name) => Number(/: (\d+)/.exec(await get(`/stats?filter=^${name}$`))?.[1]),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

interface Clusters {
  cluster_statuses?: {
    name: string;
    host_statuses?: {
      address: { socket_address: { address: string; port_value: number } };
      health_status: { eds_health_status?: string };
    }[];
  }[];
}
interface Dump {
  configs: {
    static_endpoint_configs?: { endpoint_config: { endpoints?: { lb_endpoints?: DumpedEndpoint[] }[] } }[];
  }[];
}
interface DumpedEndpoint {
  endpoint: { address: { socket_address: { address: string } } };
  metadata?: { filter_metadata: { 'envoy.lb': { hash_key: string } } };
}

/** The hosts that Envoy has in its cluster, with the hash_key that its dump gives for their address. */
function readTable({ cluster_statuses = [] }: Clusters, { configs }: Dump, cluster: string): Record<string, string> {
  const keys = new Map<string, string>();
  for (const { endpoint_config } of configs.flatMap(({ static_endpoint_configs = [] }) => static_endpoint_configs)) {
    for (const { endpoint, metadata } of endpoint_config.endpoints?.flatMap(({ lb_endpoints = [] }) => lb_endpoints) ?? []) {
      if (metadata !== undefined) keys.set(endpoint.address.socket_address.address, metadata.filter_metadata['envoy.lb'].hash_key);
    }
  }
  const hosts = cluster_statuses.find(({ name }) => name === cluster)?.host_statuses ?? [];
  return Object.fromEntries(
    hosts.map(({ address: { socket_address: at }, health_status }) => [
      keys.get(at.address) ?? `unknown at ${at.address}`,
      `${at.address} ${health_status.eds_health_status ?? 'HEALTHY'}`,
    ]),
  );
}

const clusterOf = { eds: { api_type: 'GRPC' }, 'delta-eds': { api_type: 'DELTA_GRPC' } } as const;
// As the operators' bootstrap, but sooner: a machine that is busy must not make Envoy wait for half a minute.
const edsService = [
  { envoy_grpc: { cluster_name: 'xds', retry_policy: { retry_back_off: { base_interval: '0.1s', max_interval: '1s' } } } },
];

function bootstrap({
  eds,
  adsKind,
  follow,
  listenPort,
  transportSocket,
}: Required<Pick<EnvoyOptions, 'eds' | 'adsKind' | 'follow'>> & {
  listenPort: number | undefined;
  transportSocket: object | undefined;
}): unknown {
  const source = (protocol: (typeof protocols)[number]): unknown =>
    protocol === 'ads'
      ? { ads: {} }
      : { api_config_source: { ...clusterOf[protocol], transport_api_version: 'V3', grpc_services: edsService } };
  const http2 = { explicit_http_config: { http2_protocol_options: {} } };
  return {
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    ...(follow.includes('ads')
      ? { dynamic_resources: { ads_config: { api_type: adsKind, transport_api_version: 'V3', grpc_services: edsService } } }
      : {}),
    static_resources: {
      listeners: listenPort === undefined ? [] : [listener(listenPort)],
      clusters: [
        ...follow.map((protocol) => ({
          name: protocol,
          type: 'EDS',
          eds_cluster_config: {
            service_name: 'kura-cache',
            eds_config: { resource_api_version: 'V3', initial_fetch_timeout: '0s', ...(source(protocol) as object) },
          },
          lb_policy: 'MAGLEV',
          maglev_lb_config: { table_size: 655_373 },
        })),
        {
          name: 'xds',
          type: 'STATIC',
          connect_timeout: '5s',
          ...(transportSocket === undefined ? {} : { transport_socket: transportSocket }),
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              ...http2,
            },
          },
          load_assignment: {
            cluster_name: 'xds',
            endpoints: [{ lb_endpoints: eds.map((address) => ({ endpoint: { address: socketAddress(address) } })) }],
          },
        },
      ],
    },
  };
}

function socketAddress(address: string): unknown {
  const [host, port] = address.split(':');
  return { socket_address: { address: host, port_value: Number(port) } };
}

function listener(port: number): unknown {
  const extension = 'type.googleapis.com/envoy.extensions.filters';
  return {
    name: 'objects',
    address: socketAddress(`127.0.0.1:${port}`),
    filter_chains: [
      {
        filters: [
          {
            name: 'http',
            typed_config: {
              '@type': `${extension}.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: 'objects',
              http_filters: [{ name: 'router', typed_config: { '@type': `${extension}.http.router.v3.Router` } }],
              route_config: {
                virtual_hosts: [
                  {
                    name: 'all',
                    domains: ['*'],
                    routes: [{ match: { prefix: '/' }, route: { cluster: 'eds', hash_policy: [{ header: { header_name: ':path' } }] } }],
                  },
                ],
              },
            },
          },
        ],
      },
    ],
  };
}
