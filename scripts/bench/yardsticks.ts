/** Other caches beside nginx: bare Node, varnish and bazel-remote. A bench works without those that are not installed, and names them. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isInstalled } from './run.ts';
import { type BenchServer, startBareNode, startProgram } from './servers.ts';

export interface Yardstick {
  readonly server: BenchServer;
  /** Returns the path for a body that nginx has under `target`. */
  place(target: string, body: Buffer): Promise<string>;
  /** The Lua expression for the path of PUT number `n` of a run. Undefined: the server takes no PUT. */
  readonly putPath: ((run: string) => string) | undefined;
}

interface YardstickOptions {
  readonly folder: string;
  /** Serves the files of `folder/www`. */
  readonly nginx: BenchServer;
  /** Starts only servers that take PUTs. */
  readonly isForPut?: boolean;
  /** Two ports from this one are used. */
  readonly firstPort: number;
  /** The byte limit of each cache, in GiB. */
  readonly maxGiB: number;
}

const root = path.resolve(import.meta.dirname, '..', '..');
const bazelRemote = path.join(root, '.tools', 'bazel-remote');

export async function startYardsticks(options: YardstickOptions): Promise<Yardstick[]> {
  const same = async (target: string): Promise<string> => target;
  const made: Yardstick[] = [];
  if (options.isForPut !== true) {
    made.push({ server: await startBareNode(options.folder), place: same, putPath: undefined });
    if (isInstalled('varnishd')) made.push({ server: await startVarnish(options), place: same, putPath: undefined });
    else console.error('varnish is missing: apt-get install varnish');
  }
  if (existsSync(bazelRemote)) made.push(await startBazelRemote(options));
  else console.error('.tools/bazel-remote is missing: see docs/benchmarks.md');
  return made;
}

/** Keeps the objects of nginx in memory. Without the subroutine, varnish does not cache requests with `authorization`. */
async function startVarnish({ folder, nginx, firstPort, maxGiB }: YardstickOptions): Promise<BenchServer> {
  const rules = path.join(folder, `varnish-${firstPort}.vcl`);
  const { hostname, port } = new URL(nginx.url);
  writeFileSync(
    rules,
    `vcl 4.1; backend nginx { .host = "${hostname}"; .port = "${port}"; }
sub vcl_recv { return (hash); } sub vcl_backend_response { set beresp.ttl = 1h; return (deliver); }`,
  );
  const state = path.join(folder, `varnish-${firstPort}`);
  const words = ['-F', '-j', 'none', '-n', state, '-T', 'none', '-a', `127.0.0.1:${firstPort}`, '-f', rules, '-s', `malloc,${maxGiB}g`];
  return await startProgram({ name: 'varnish', words: ['varnishd', ...words], port: firstPort, isForked: true });
}

/** Paths are checksums: `/cas/` checks the body, `/ac/` takes any. */
async function startBazelRemote({ folder, firstPort, maxGiB }: YardstickOptions): Promise<Yardstick> {
  const port = firstPort + 1;
  const directory = path.join(folder, `bazel-remote-${port}`);
  mkdirSync(directory);
  const words = ['--dir', directory, '--max_size', String(maxGiB), '--http_address', `127.0.0.1:${port}`, '--grpc_address', 'none'];
  const modes = ['--storage_mode', 'uncompressed', '--disable_http_ac_validation', '--access_log_level', 'none'];
  const server = await startProgram({ name: 'bazel-remote', words: [bazelRemote, ...words, ...modes], port, isForked: false });
  const place = async (_: string, body: Buffer): Promise<string> => {
    const target = `/cas/${createHash('sha256').update(body).digest('hex')}`;
    const { status } = await fetch(server.url + target, { method: 'PUT', body: new Uint8Array(body) });
    if (status !== 200) throw new Error(`PUT ${target} returned ${status}`);
    return target;
  };
  // A run is named by hexadecimal digits.
  return { server, place, putPath: (run) => `string.format("/ac/%s%0" .. (64 - #${run}) .. "x", ${run}, n)` };
}
