/** The running Pods, from a metadata-only watch. With it, a review's result can live longer than the 10 s for which the API caches it. */
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
  /** True while the watch is open and its first list has arrived. */
  readonly healthy: boolean;
  /** Also false for a new Pod that the watch has not reported yet. */
  isRunning(pod: PodReference): boolean;
  /** True when the API has begun to delete the Pod. False also for a Pod that the watch has not reported. */
  isEnding(pod: Omit<PodReference, 'uid'>): boolean;
  close(): Promise<void>;
}

/** The API accepts a token until this long after its Pod's deletionTimestamp. */
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
    isEnding: ({ namespace, name }) => reflector.get(`${namespace}/${name}`)?.metadata?.deletionTimestamp !== undefined,
    close: () => reflector.close(),
  };
}
