/** `kura size`: how large the parts of a kura must be for a cluster. */
import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes, formatCount, formatDuration, formatPercent } from '../../shared/format.ts';
import { parseQuantity } from '../../shared/quantity.ts';
import { type Size, type SizeInput, sizeOf } from '../size-model.ts';
import { UsageError } from '../usage-error.ts';
import { type CommandContext, count, exitStatuses, type RunAction } from './command-context.ts';

interface SizeOptions {
  readonly nodes?: number;
  readonly gpusPerNode: number;
  readonly clients?: number;
  readonly disks: number;
  readonly shards?: number;
  readonly diskSize: number;
  readonly objectSize: number;
  readonly throughput?: number;
  readonly gpuThroughput: number;
  readonly zones: number;
  readonly envoyThreads: number;
  readonly json?: boolean;
}

const number = count({ max: 1_000_000 });
const mebi = 1024 ** 2;

export function addSizeCommand(program: Command, { terminal }: CommandContext, run: RunAction): void {
  program
    .command('size')
    .description('calculate shards, Envoys and their load for a cluster')
    .option('--nodes <n>', 'nodes with GPUs and disks', number)
    .option('--gpus-per-node <n>', 'GPUs of a node', number, 8)
    .option('--clients <n>', 'workload Pods with a token (default: one for each GPU)', number)
    .option('--disks <n>', 'disks of a node, one shard each', number, 1)
    .option('--shards <n>', 'shards (default: nodes times disks)', number)
    .option('--disk-size <quantity>', 'size of a shard, such as 3500Gi', quantity, 1024 * 1024 * mebi)
    .option('--object-size <quantity>', 'mean size of an object, such as 112Ki', quantity, mebi)
    .option('--throughput <quantity>', 'bytes a second that all workloads read (default: the GPUs times --gpu-throughput)', quantity)
    .option('--gpu-throughput <quantity>', 'bytes a second that a GPU reads', quantity, 100 * mebi)
    .option('--zones <n>', 'zones of the cluster', count({ max: 100 }), 3)
    .option('--envoy-threads <n>', 'worker threads of an Envoy', count({ max: 64 }), 4)
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nThe figures behind the result are in docs/benchmarks.md. They come from a slow machine.')
    .action((options: SizeOptions) =>
      run(async () => {
        const input = inputOf(options);
        const size = sizeOf(input);
        terminal.print(options.json ? JSON.stringify({ input, ...size }) : describe(input, size));
        return exitStatuses.success;
      }),
    );
}

function inputOf(options: SizeOptions): SizeInput {
  const { nodes, gpusPerNode, disks, diskSize, objectSize, gpuThroughput, zones, envoyThreads } = options;
  const gpus = nodes === undefined ? undefined : nodes * gpusPerNode;
  const clients = options.clients ?? gpus;
  const shards = options.shards ?? (nodes === undefined ? undefined : nodes * disks);
  const bytesPerSecond = options.throughput ?? (gpus === undefined ? undefined : gpus * gpuThroughput);
  if (clients === undefined || shards === undefined || bytesPerSecond === undefined)
    throw new UsageError('set --nodes, or all of --clients, --shards and --throughput');
  if (objectSize > diskSize) throw new UsageError('--object-size is larger than --disk-size');
  return { clients, shards, diskBytes: diskSize, objectBytes: objectSize, bytesPerSecond, zones, envoyThreads };
}

function describe(input: SizeInput, size: Size): string {
  const { shards, envoys, healthChecks, eds, authz } = size;
  const share = formatPercent;
  const rows: readonly (readonly [string, string])[] = [
    ['clients', formatCount(input.clients)],
    ['reads', `${formatBytes(input.bytesPerSecond)}/s, ${formatCount(Math.round(size.requestsPerSecond))} requests/s`],
    ['shards', `${formatCount(shards.count)}, ${formatBytes(shards.capacityBytes)} in all`],
    ['  objects', `${formatCount(shards.objectsPerShard)} a shard`],
    ['  CPU', `${shards.cores.toFixed(2)} cores a shard`],
    ['  memory', `${formatBytes(shards.memoryBytes)} a shard, and page cache`],
    ['  maxUnavailable', `${shards.maxUnavailable}; a rollout takes about ${formatDuration(shards.rolloutSeconds)}`],
    ['Envoys', `${envoys.count} for ${envoys.cores.toFixed(1)} cores, with ${input.envoyThreads} worker threads at 60 %`],
    ['  autoscaler', `minReplicas ${envoys.minReplicas}, maxReplicas ${envoys.maxReplicas}`],
    ['  network', `${formatBytes(envoys.bytesPerSecond)}/s each, in and out`],
    ['  memory', `${formatBytes(envoys.memoryBytes)} each`],
    ['health checks', `interval ${healthChecks.intervalSeconds}s: ${formatCount(Math.round(healthChecks.perSecond))}/s with all Envoys`],
    ['  cost', `${share(healthChecks.envoyShare)} of a core in each Envoy, ${share(healthChecks.shardShare)} in each shard`],
    ['  a dead shard', `noticed after at most ${healthChecks.noticedAfterSeconds.toFixed(1)} s`],
    ['eds', `${formatBytes(eds.bytesPerChange)} sent for each change of a shard, ${formatBytes(eds.memoryBytes)} a replica`],
    ['authz', `${authz.form}, ${formatBytes(authz.memoryBytes)} each`],
    ['  TokenReviews', `at most ${formatCount(Math.ceil(authz.reviewsPerSecond))}/s, ${authz.apiCores.toFixed(2)} cores of the API server`],
    ['  watches on Pods', `${formatBytes(authz.apiWatchBytes)} of the API server`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
  return [...lines, ...size.warnings.map((warning) => `warning: ${warning}`)].join('\n');
}

function quantity(value: string): number {
  const bytes = parseQuantity(value);
  if (bytes === undefined || bytes === 0) throw new InvalidArgumentError('It must be a quantity of bytes above 0, such as 3500Gi or 75G.');
  return bytes;
}
