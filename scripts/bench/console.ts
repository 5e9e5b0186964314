/**
 * `npm run bench:console`: the console with 1,000 shards of 100 namespaces. Prints the time until the first page and the later ones, the
 * CPU while nobody looks, and the memory. A real shard gives the pages, and one server answers with them for all shards.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { signHeaders } from '../../services/shared/signed-terms.ts';
import { call } from '../../test/support/http.ts';
import { waitFor } from '../../test/support/wait.ts';
import { readProcess, startCluster } from './eds-cluster.ts';
import { makeFolder } from './run.ts';
import { startShard } from './servers.ts';

const shardCount = 1_000;
const namespaces = 100;
const root = path.resolve(import.meta.dirname, '..', '..');
/** The flags of its manifest. */
const flags = ['--max-semi-space-size=2', '--max-old-space-size=128'];
const idleIntervalMs = 5_000;

const pages = await readPages();
console.log(`${shardCount} shards, ${pages.metrics.length >> 10} KiB of metrics each`);
const shards = await serveShards(pages);
const cluster = await startCluster(shardCount, (index) => `127.1.${index >> 8}.${index & 255}`, shards.port);
try {
  await benchConsole(cluster.kubeconfig);
} finally {
  await cluster.close();
  shards.close();
}
process.exit(0);

async function benchConsole(kubeconfig: string): Promise<void> {
  const { pid, listening, stop } = await startConsole(kubeconfig);
  const rounds = async () =>
    Number(
      /^kura_console_rounds_total (\d+)/m.exec((await call(`http://${listening.metrics}`, { path: '/metrics' })).body.toString())?.[1] ?? 0,
    );
  const round = async (number: number) => {
    await waitFor(`round ${number}`, async () => (await rounds()) >= number);
    return await readProcess(pid);
  };
  try {
    const first = await round(1);
    const idle = await round(4);
    const roundMs = (idle.cpuMs - first.cpuMs) / 3;
    console.log(
      `while nobody looks: CPU of a round ${roundMs.toFixed(0)} ms, ${(roundMs / 600).toFixed(2)} % of a core, ${idle.rssMiB} MiB`,
    );
    for (let look = 1; look <= 4; look += 1) {
      const before = await readProcess(pid);
      const startedMs = performance.now();
      const { body } = await call(`http://${listening.page}`, { path: '/' });
      const tookMs = performance.now() - startedMs;
      const { cpuMs } = await readProcess(pid);
      console.log(`page ${look}: ${tookMs.toFixed(0)} ms, CPU meanwhile ${cpuMs - before.cpuMs} ms, ${body.length >> 10} KiB`);
      // As the script of the page does.
      await new Promise((resolve) => setTimeout(resolve, 5_000));
    }
    const { rssMiB, peakMiB } = await readProcess(pid);
    console.log(`memory: ${rssMiB} MiB, at most ${peakMiB} MiB`);
  } finally {
    stop();
  }
}

async function startConsole(kubeconfig: string) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, ...flags, path.join(root, 'services/console/main.ts')], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: {
      PATH: process.env.PATH,
      KURA_CONSOLE_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_DATASETS_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_METRICS_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_KUBECONFIG: kubeconfig,
      KURA_CONSOLE_CREDENTIAL_FILE: 'off',
      KURA_CONSOLE_IDLE_INTERVAL: `${idleIntervalMs}ms`,
      KURA_CONSOLE_STATE_DIRECTORY: makeFolder(),
    },
  });
  const [{ listening }] = (await once(child, 'message')) as [{ listening: Record<string, string> }];
  return { pid: child.pid as number, listening, stop: () => child.kill('SIGKILL') };
}

interface Pages {
  readonly metrics: Buffer;
  readonly totals: Buffer;
}

function nameOf(number: number): string {
  return `machine-learning-team-${number}`;
}

async function readPages(): Promise<Pages> {
  const shard = await startShard(path.join(makeFolder(), 'shard'));
  const expiresAtSeconds = Math.ceil(Date.now() / 1000) + 3_600;
  const terms = { maxObjectBytes: 2 ** 30, maxShare: 0.5, mayRedirect: false, expiresAtSeconds };
  const headersOf = (namespace: string, mayManage: boolean) => {
    const signed = signHeaders(undefined, { namespace, serviceAccount: 'x', pod: undefined }, { ...terms, mayManage });
    return { 'x-kura-caller': signed.caller, 'x-kura-terms': signed.terms };
  };
  for (let number = 0; number < namespaces; number += 1) {
    const headers = { ...headersOf(nameOf(number), false), 'content-length': '4' };
    await call(shard.url, { method: 'PUT', path: `/objects/${nameOf(number)}/set/train/x`, headers, body: Buffer.from('body') });
    await call(shard.url, { path: `/objects/${nameOf(number)}/set/train/x`, headers: headersOf(nameOf(number), false) });
  }
  const totals = (await call(shard.url, { path: '/datasets?prefix=', headers: headersOf('kura-system', true) })).body;
  const metrics = (await call(`${shard.metricsUrl}`, { path: '/metrics' })).body;
  await shard.stop();
  return { metrics: Buffer.from(metrics), totals: Buffer.from(totals) };
}

/** One port for all shards, and the port of their metrics, which is 100 higher. The shards keep no removals. */
async function serveShards({ metrics, totals }: Pages): Promise<{ port: number; close(): void }> {
  const start = async (bodyOf: (path: string) => Buffer | string, port: number): Promise<Server> => {
    const server = createServer(({ url = '' }, response) => response.end(bodyOf(url))).listen(port, '0.0.0.0');
    await once(server, 'listening');
    return server;
  };
  const objects = await start((url) => (url.startsWith('/datasets/removals') ? '{"removals":[]}' : totals), 0);
  const { port } = objects.address() as AddressInfo;
  const pages = await start(() => metrics, port + 100);
  return {
    port,
    close: () => {
      objects.close();
      pages.close();
    },
  };
}
