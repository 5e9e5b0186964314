/** A kura in a cluster, as kubectl reaches it. */
import { request } from 'undici';
import type { ShardNumbers as PageNumbers } from '../../shared/shard-numbers.ts';
import { flatNumbers, type ShardNumbers } from '../client/shard-numbers.ts';
import type { Forward, Kubectl } from './kubectl.ts';

export interface PodSummary {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec: { readonly containers: readonly { readonly name: string }[] };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

interface EdsStatus {
  readonly shards: readonly { readonly hashKey: string; readonly numbers?: PageNumbers }[];
}

const maxResponseMs = 20_000;
export const selector = 'app.kubernetes.io/name in (kura-cache,kura-envoy,kura-authz,kura-eds)';
const edsPort = 9904;

export async function podsOf(kubectl: Kubectl): Promise<readonly PodSummary[]> {
  return (await kubectl.json<{ items: readonly PodSummary[] }>(['get', 'pods', '-l', selector])).items;
}

export function partOf(pod: PodSummary): string {
  return pod.metadata.labels?.['app.kubernetes.io/name'] ?? '';
}

/** Opens the status page of a replica of eds that is ready. */
export async function forwardEds(kubectl: Kubectl): Promise<Forward> {
  const eds = (await podsOf(kubectl)).filter((pod) => partOf(pod) === 'kura-eds');
  const ready = eds.find(({ status }) => status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True'));
  if (ready === undefined) throw new Error(`0 of ${eds.length} Pods of eds are ready; check --namespace`);
  return await kubectl.forward(ready.metadata.name, edsPort);
}

/** The numbers of all shards, as eds knows them. */
export async function readShardsFrom(eds: Forward): Promise<ShardNumbers[]> {
  const { shards } = JSON.parse(await getText(`${eds.url}/status.json`)) as EdsStatus;
  return shards.map(({ hashKey, numbers }) => ({
    name: hashKey,
    numbers: numbers === undefined ? undefined : flatNumbers(mapped(numbers)),
  }));
}

export async function getText(url: string): Promise<string> {
  const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(maxResponseMs) });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`${new URL(url).pathname}: status ${statusCode}`);
  return text;
}

/** JSON has the namespaces as an object. */
function mapped(numbers: PageNumbers): PageNumbers {
  return { ...numbers, namespaces: new Map(Object.entries(numbers.namespaces)) };
}
