/** console: shows the state of all parts of kura, and lists and removes what the shards store. */
import path from 'node:path';
import { type Closer, startWithCloser } from '../shared/closer.ts';
import { openCredentials } from '../shared/credential-file.ts';
import { readSettings, type Settings } from '../shared/environment.ts';
import { connectKubernetes } from '../shared/kubernetes.ts';
import { runService } from '../shared/lifecycle.ts';
import { createLogger, type Logger } from '../shared/log.ts';
import { createRegistry, startMetricsServer, startPages } from '../shared/metrics.ts';
import { settings } from './config.ts';
import { startDatasetsServer } from './datasets/http.ts';
import { Overview } from './datasets/overview.ts';
import { Removals } from './datasets/removals.ts';
import { ShardClient } from './datasets/shard-client.ts';
import { statusPages } from './http.ts';
import { createMetrics } from './metrics.ts';
import { KeySharesCache } from './page/key-shares.ts';
import { type Status, statusOf } from './page/status.ts';
import { Cluster } from './readings/cluster.ts';
import { Collector } from './readings/collector.ts';
import { History } from './readings/history.ts';
import { HistoryFile } from './readings/history-file.ts';
import { Rounds } from './readings/rounds.ts';

const dayMinutes = 24 * 60;
const saveMs = 60_000;
const maxSharesMs = 1_000;

await runService('console', async () => {
  const config = readSettings('KURA_CONSOLE_', settings, process.env);
  const log = createLogger({ service: 'console', level: config.logLevel });
  return { log, running: await startWithCloser((closer) => start(config, log, closer)) };
});

async function start(config: Settings<typeof settings>, log: Logger, closer: Closer): Promise<Record<string, string>> {
  const { namespace, service } = config;
  const client = connectKubernetes({ kubeconfig: config.kubeconfig });
  closer.add('Kubernetes client', () => client.close());
  const cluster = new Cluster({ client, namespace, service, log });
  closer.add('watches', () => cluster.close());
  const history = keepHistory(fileIn(config.stateDirectory, 'history.json'), log, closer);
  const collector = new Collector({ cluster, history, now: Date.now });
  const registry = createRegistry();
  const metrics = createMetrics(registry, { answers: () => collector.answers });
  const datasets = openDatasets(config, { cluster, collector, log, closer });
  const rounds = new Rounds({
    round: async ({ signal, isWatched }) => {
      await collector.round(signal);
      metrics.rounds.inc();
      if (isWatched) await datasets.overview.refresh();
      await datasets.removals.repeat();
    },
    isKnown: () => cluster.isKnown,
    watchedMs: config.watchedInterval,
    idleMs: config.idleInterval,
  });
  closer.add('rounds', () => rounds.close());
  const pages = statusPages({ read: statusReader({ service, cluster, collector, history, rounds, overview: datasets.overview }), log });
  const pageServer = await startPages({ address: config.listen, pages });
  closer.add('page server', () => pageServer.close());
  const datasetsServer = await startDatasetsServer({ address: config.datasetsListen, ...datasets });
  closer.add('server of data sets', () => datasetsServer.close());
  const metricsServer = await startMetricsServer({
    address: config.metricsListen,
    registry,
    notReady: () => (cluster.isKnown ? undefined : 'the first lists of EndpointSlices and Pods have not arrived yet'),
  });
  closer.add('metrics server', () => metricsServer.close());
  return { page: pageServer.address, datasets: datasetsServer.address, metrics: metricsServer.address };
}

function openDatasets(
  { credentialFile, stateDirectory, namespace }: Settings<typeof settings>,
  { cluster, collector, log, closer }: { cluster: Cluster; collector: Collector; log: Logger; closer: Closer },
) {
  const credentials = openCredentials(credentialFile, log);
  closer.add('credentials', () => credentials.close());
  const common = { keys: () => credentials.keys, now: Date.now };
  const client = new ShardClient({ ...common, namespace });
  closer.add('shard client', () => client.close());
  const shards = () => (cluster.isKnown ? cluster.shards(collector.assignment?.identity ?? 'pod') : undefined);
  const file = fileIn(stateDirectory, 'removals.json');
  const answers = (hashKey: string) => collector.shards.has(hashKey);
  const removals = new Removals({ ...common, client, shards: () => shards() ?? [], answers, file, log });
  const overview = new Overview({ client, shards: () => shards() ?? [], now: Date.now });
  return { ...common, client, removals, overview, shards, log };
}

function fileIn(folder: string | undefined, name: string): string | undefined {
  return folder === undefined ? undefined : path.join(folder, name);
}

/** Reads the history of the process before this one, and writes it each minute and at the end. */
function keepHistory(file: string | undefined, log: Logger, closer: Closer): History {
  if (file === undefined) return new History();
  const saved = new HistoryFile({ file, log });
  const history = new History(saved.read());
  let writing: Promise<void> = Promise.resolve();
  const save = (): void => {
    writing = writing.then(() => saved.write(history.all));
  };
  const timer = setInterval(save, saveMs);
  closer.add('history', async () => {
    clearInterval(timer);
    save();
    await writing;
  });
  return history;
}

function statusReader({
  service,
  cluster,
  collector,
  history,
  rounds,
  overview,
}: {
  service: string;
  cluster: Cluster;
  collector: Collector;
  history: History;
  rounds: Rounds;
  overview: Overview;
}): () => Promise<Status> {
  const keyShares = new KeySharesCache();
  return async () => {
    await rounds.look();
    const { assignment, endedAt, shards: shardReadings, eds, authz, envoys, others } = collector;
    const shards = cluster.shards(assignment?.identity ?? 'pod');
    return statusOf({
      at: endedAt ?? new Date(),
      service,
      isListCurrent: cluster.isCurrent,
      shards,
      parts: cluster.parts,
      ...{ shardReadings, eds, authz, envoys, others, assignment },
      datasets: overview.current,
      keyShares: await keyShares.sharesWithin(maxSharesMs, shards, assignment?.placement ?? 'global'),
      day: history.minutes(Date.now(), dayMinutes),
    });
  };
}
