/** Direct transfers: a shard with sendfile against a shard without it. A ticket is valid for 60 s, which is longer than one load. */
import { better, type LoadResult, load } from './load.ts';
import { progress, rounds, seconds } from './run.ts';
import { type BenchServer, startShard } from './servers.ts';
import { compare, type Row } from './table.ts';

const KiB = 1024;

export async function benchSendfile(folder: string): Promise<Row[]> {
  const start = async (sendfile: 'true' | 'false'): Promise<BenchServer> =>
    await startShard(`${folder}/${sendfile}`, {
      KURA_CACHE_MAX_BYTES: '1Gi',
      KURA_CACHE_ADVERTISE: '127.0.0.1',
      KURA_CACHE_DIRECT_MIN_BYTES: '0',
      KURA_CACHE_TICKET_LIFE: '60s',
      KURA_CACHE_SENDFILE: sendfile,
    });
  const servers = [await start('true'), await start('false')] as const;
  const made: Row[] = [];
  try {
    for (const [name, bytes] of [
      ['512 KiB', 512 * KiB],
      ['1 MiB', 1024 * KiB],
      ['64 MiB', 64 * 1024 * KiB],
    ] as const) {
      const body = new Uint8Array(bytes).fill(1);
      for (const { url } of servers) await fetch(`${url}/objects/bench/${bytes}`, { method: 'PUT', body });
      const best = new Map<BenchServer, LoadResult>();
      for (let round = 0; round < rounds; round += 1) {
        for (const [at, server] of servers.entries()) {
          progress(`direct ${name}, ${at === 0 ? 'sendfile' : 'buffers'}`);
          const answer = await fetch(`${server.url}/direct/bench/${bytes}`, { redirect: 'manual' });
          const path = new URL(answer.headers.get('location') ?? '').pathname;
          best.set(server, better(await load({ server, path, seconds, folder }), best.get(server)));
        }
      }
      const [ours, theirs] = servers.map((server) => best.get(server)) as [LoadResult, LoadResult];
      const labels = { baseline: 'buffers', theirs: 'buffers' };
      made.push(compare(`GET ${name}, direct, sendfile`, undefined, { ours, theirs, labels }));
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
  return made;
}
