/**
 * 95 % GET of cached objects and 5 % PUT of new objects, through an Envoy without authorization, to a shard and to nginx. Envoy's pools
 * mix both on one connection. A parser that leaves the fast path at the first PUT of a connection would lose it for all later GETs.
 */
import { startPlainEnvoy } from './envoy.ts';
import { better, type LoadResult, load } from './load.ts';
import { progress, rounds, seconds } from './run.ts';
import { type BenchServer, shardMetric } from './servers.ts';
import { compare, type Row } from './table.ts';

const objectBytes = 112 * 1024;
const hotObjects = 500;
const putEvery = 20;

/** Both servers accept PUTs under /objects/. */
export async function benchMixed({ shard, nginx, folder }: { shard: BenchServer; nginx: BenchServer; folder: string }): Promise<Row[]> {
  const envoys = await Promise.all([shard, nginx].map((server, at) => startPlainEnvoy({ server, folder, port: 18_090 + at, workers: 1 })));
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
    const row = compare('95 % GET cached, 5 % PUT, 112 KiB, through Envoy', undefined, {
      ours: best.get(shard) as LoadResult,
      theirs: best.get(nginx) as LoadResult,
    });
    return [{ ...row, details: `${row.details}; ${handedOver} connections handed over to Node` }];
  } finally {
    await Promise.all(envoys.map((envoy) => envoy.stop()));
  }
}
