/** Which Pods run, by a metadata-only watch: what lets a review's result live longer than the API's own 10 s. */
import type { KubernetesObject } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import { Reflector } from '../../shared/reflector.ts';

interface PodReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface RunningPods {
  /** True while the watch is open and its first list is in. */
  readonly healthy: boolean;
  /** False too for a Pod so new that the watch has not told of it yet. */
  isRunning(pod: PodReference): boolean;
  close(): Promise<void>;
}

/** The API lets a token live this long after its Pod's deletionTimestamp. */
const graceMs = 60_000;

export function watchPods({ client, log, now }: { client: KubernetesClient; log: Logger; now: () => number }): RunningPods {
  const reflector = new Reflector<KubernetesObject>({
    client,
    path: '/api/v1/pods',
    fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed',
    metadataOnly: true,
    log,
  });
  return {
    get healthy() {
      return reflector.synced && reflector.healthy;
    },
    isRunning: ({ namespace, name, uid }) => {
      const metadata = reflector.get(`${namespace}/${name}`)?.metadata;
      if (metadata?.uid !== uid) return false;
      const { deletionTimestamp } = metadata;
      return deletionTimestamp === undefined || now() < new Date(deletionTimestamp).getTime() + graceMs;
    },
    close: () => reflector.close(),
  };
}
