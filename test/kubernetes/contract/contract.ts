import test from 'ava';
import { type Cluster, type ClusterSource, openCluster } from './cluster.ts';
import { objectContract } from './objects.ts';
import { readContract } from './reads.ts';
import { refusalContract } from './refusals.ts';
import { tokenContract } from './tokens.ts';
import { watchContract } from './watches.ts';

/**
 * The contract that the stand-in and a real Kubernetes API both hold, as tests of the file that calls this. One API is started for all of them, and `start`
 * gives it back with what ends it.
 */
export function defineContract(start: () => Promise<{ readonly source: ClusterSource; stop(): Promise<void> }>): void {
  let cluster: Cluster;
  let stop: (() => Promise<void>) | undefined;
  test.before(async () => {
    const started = await start();
    stop = () => started.stop();
    cluster = await openCluster(started.source);
  });
  test.after.always(async () => {
    await cluster?.close();
    await stop?.();
  });
  const opened = (): Cluster => cluster;
  tokenContract(opened);
  refusalContract(opened);
  objectContract(opened);
  readContract(opened);
  watchContract(opened);
}
