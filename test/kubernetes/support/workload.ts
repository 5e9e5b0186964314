/** A training job's Pod, as far as kura sees it: an object and a token that is bound to it. */
import type { V1Pod } from '@kubernetes/client-node';
import type { Cluster } from '../contract/cluster.ts';
import { requestToken } from './volumes.ts';

export interface Workload {
  readonly pod: V1Pod;
  /** For kura. */
  readonly token: string;
}

const namespace = 'vision';
const serviceAccountName = 'trainer';
let count = 0;

export async function makeWorkload(cluster: Cluster): Promise<Workload> {
  // 409 where they are there already.
  await cluster.call('POST', '/api/v1/namespaces', { body: { metadata: { name: namespace } } });
  await cluster.call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { body: { metadata: { name: serviceAccountName } } });
  const spec = { nodeName: 'node-a', serviceAccountName, containers: [{ name: 'train', image: 'train' }] };
  const body = { metadata: { name: `train-${count++}` }, spec };
  const pod = (await cluster.ok('POST', `/api/v1/namespaces/${namespace}/pods`, { body })) as V1Pod;
  return { pod, token: await requestToken(cluster, pod, { audience: 'kura' }) };
}
