/** A plain Envoy in front of one server: the baseline of a request path. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import type { BenchServer } from './servers.ts';

/** Has the buffer sizes of envoy/bootstrap.yaml and nothing else from it. */
export async function startPlainEnvoy({
  server,
  folder,
  port,
  workers,
}: {
  server: BenchServer;
  folder: string;
  port: number;
  workers: number;
}): Promise<BenchServer> {
  const upstream = Number(new URL(server.url).port);
  const file = path.join(folder, `envoy-${port}.json`);
  const address = (portValue: number) => ({ socket_address: { address: '127.0.0.1', port_value: portValue } });
  const manager = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    stat_prefix: 'bench',
    generate_request_id: false,
    route_config: {
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'server', timeout: '0s' } }] }],
    },
    http_filters: [
      {
        name: 'router',
        typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router', suppress_envoy_headers: true },
      },
    ],
  };
  writeFileSync(
    file,
    JSON.stringify({
      static_resources: {
        listeners: [
          {
            name: 'bench',
            address: address(port),
            per_connection_buffer_limit_bytes: 131_072,
            filter_chains: [{ filters: [{ name: 'http', typed_config: manager }] }],
          },
        ],
        clusters: [
          {
            name: 'server',
            type: 'STATIC',
            per_connection_buffer_limit_bytes: 131_072,
            load_assignment: { cluster_name: 'server', endpoints: [{ lb_endpoints: [{ endpoint: { address: address(upstream) } }] }] },
          },
        ],
      },
    }),
  );
  const root = path.resolve(import.meta.dirname, '..', '..');
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const words = [
    '--pdeathsig',
    'KILL',
    '--',
    binary,
    '-c',
    file,
    '--concurrency',
    String(workers),
    '--use-dynamic-base-id',
    '--log-level',
    'error',
  ];
  const child = spawn('setpriv', words, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer !== undefined) break;
    if (tries > 200 || child.exitCode !== null) throw new Error('Envoy did not start');
    await delay(50);
  }
  return {
    name: `Envoy to ${server.name}`,
    url,
    metricsUrl: undefined,
    // setpriv executes Envoy in the same process.
    pid: child.pid as number,
    parts: { envoy: child.pid as number, ...server.parts },
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
