/**
 * 95 % GET of cached objects and 5 % PUT of new ones through an Envoy without authorization, to a shard and to nginx. Envoy's pools mix both on a connection, so that a
 * parser which gave a connection away for good at its first PUT would lose the fast path (decisions.md).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { envoyBinary } from '../services/local/envoy-binary.ts';
import { better, type LoadResult, load } from './bench-load.ts';
import { type BenchServer, shardMetric } from './bench-servers.ts';
import { compare, type Row } from './bench-table.ts';

const objectBytes = 112 * 1024;
const hotObjects = 500;
const putEvery = 20;

/** Both servers take PUTs under /objects/. */
export async function benchMixed(options: {
  shard: BenchServer;
  nginx: BenchServer;
  folder: string;
  seconds: number;
  rounds: number;
  progress: (text: string) => void;
}): Promise<Row[]> {
  const { shard, nginx, folder, seconds, rounds, progress } = options;
  const envoys = await Promise.all([shard, nginx].map((server, at) => startEnvoy({ server, folder, port: 18_090 + at })));
  const best = new Map<BenchServer, LoadResult>();
  try {
    const body = new Uint8Array(objectBytes);
    for (const { url } of [shard, nginx]) {
      for (let at = 0; at < hotObjects; at += 1) await fetch(`${url}/objects/hot/${at}`, { method: 'PUT', body });
    }
    for (let round = 0; round < rounds; round += 1) {
      for (const [at, server] of [shard, nginx].entries()) {
        progress(`95 % GET, 5 % PUT, ${server.name}`);
        const script = `local body = string.rep("x", ${objectBytes}); local n = 0
request = function() n = n + 1
if n % ${putEvery} == 0 then return wrk.format("PUT", "/objects/new/${round}-" .. n, nil, body) end
return wrk.format("GET", "/objects/hot/" .. (n * 7919) % ${hotObjects}) end`;
        const envoy = envoys[at] as BenchServer;
        best.set(server, better(await load({ server: envoy, path: '/', seconds, folder, script }), best.get(server)));
      }
    }
    const handedOver = await shardMetric(shard, 'kura_cache_handed_over_total');
    const row = compare(
      '95 % GET cached, 5 % PUT, 112 KiB, through Envoy',
      undefined,
      best.get(shard) as LoadResult,
      best.get(nginx) as LoadResult,
    );
    return [{ ...row, details: `${row.details}; ${handedOver} requests given to the slower parser` }];
  } finally {
    await Promise.all(envoys.map((envoy) => envoy.stop()));
  }
}

/** One worker, with the buffers and the idle time of envoy/bootstrap.yaml. */
async function startEnvoy({ server, folder, port }: { server: BenchServer; folder: string; port: number }): Promise<BenchServer> {
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
  const root = path.resolve(import.meta.dirname, '..');
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const words = ['--pdeathsig', 'KILL', '--', binary, '-c', file, '--concurrency', '1', '--use-dynamic-base-id', '--log-level', 'error'];
  const child: ChildProcess = spawn('setpriv', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch(url).catch(() => undefined);
    if (answer !== undefined) break;
    if (tries > 200 || child.exitCode !== null) throw new Error('Envoy did not start');
    await delay(50);
  }
  const pid = Number(readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ', 1)[0]);
  return {
    name: `Envoy to ${server.name}`,
    url,
    metricsUrl: undefined,
    pid,
    stop: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
