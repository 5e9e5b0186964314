import test from 'ava';
import { type Cluster, type ClusterSource, openCluster } from './cluster.ts';
import { objectContract } from './objects.ts';
import { readContract } from './reads.ts';
import { refusalContract } from './refusals.ts';
import { tokenContract } from './tokens.ts';
import { watchContract } from './watches.ts';

/**
 * What kura relies on of a Kubernetes API, as tests of the file that calls this. The fake API and a real one both pass them. `start` runs once for all tests and
 * returns the API with a function that stops it.
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
