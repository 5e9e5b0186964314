/** Pure: what the EndpointSlices and the Pods of the cache Service say about each shard. */
import type { V1Endpoint, V1EndpointSlice, V1ObjectMeta } from '@kubernetes/client-node';

export type Health = 'HEALTHY' | 'DRAINING' | 'UNHEALTHY';
export type Identity = 'pod' | 'node';

/** One shard as Envoy shall see it. */
export interface Shard {
  /** What Maglev hashes: it stays when the shard comes back with another address. */
  readonly hashKey: string;
  readonly address: string;
  readonly port: number;
  /** On the same address. */
  readonly metricsPort: number;
  readonly health: Health;
  readonly zone: string;
  readonly node: string;
  /** Share of the keys relative to the others, at least 1. */
  readonly weight: number;
}

/** A shard as one endpoint of one slice has it, with what decides between two that cannot both be. */
export interface Candidate extends Shard {
  /** When its Pod was created, in milliseconds; Infinity where that is not known, so that a known one is the older. */
  readonly createdAt: number;
  readonly podUid: string;
}

export interface Reading {
  readonly candidates: readonly Candidate[];
  /** What could not be taken as it was written, one line each. */
  readonly problems: readonly string[];
}

/** Pod annotation: the capacity of its shards relative to the others. */
const weightAnnotation = 'kura/weight';
/** Envoy adds the weights of a locality up in 32 bits: this leaves room for 4,000 shards of the largest. */
const maxWeight = 1_000_000;
const shardPort = /^shard-(\d+)$/;
/** Where a shard's metrics are unless a port `metrics-<i>` of the slice says so. */
const metricsPortDistance = 100;

/** Reads all slices. `podOf` gives a Pod's metadata by its name where it is known. */
export function readSlices(
  slices: Iterable<V1EndpointSlice>,
  { identity, podOf }: { identity: Identity; podOf: (name: string) => V1ObjectMeta | undefined },
): Reading {
  const candidates: Candidate[] = [];
  const problems = new Set<string>();
  for (const { metadata, addressType, endpoints, ports } of slices) {
    if (addressType === 'FQDN') {
      problems.add(`slice ${metadata?.name} holds names instead of addresses`);
      continue;
    }
    for (const endpoint of endpoints ?? []) {
      const podName = endpoint.targetRef?.name ?? endpoint.hostname;
      const owner = identity === 'pod' ? podName : endpoint.nodeName;
      // Kubernetes: the addresses of one endpoint are interchangeable, and consumers take the first.
      const address = endpoint.addresses[0];
      if (owner === undefined || address === undefined) {
        problems.add(`an endpoint of slice ${metadata?.name} has no ${address === undefined ? 'address' : `${identity} name`}`);
        continue;
      }
      const pod = podName === undefined ? undefined : podOf(podName);
      const weight = weightOf(pod);
      if (weight === undefined) problems.add(`Pod ${podName}: ${weightAnnotation} is no whole number from 1 to ${maxWeight}; taken as 1`);
      for (const { name, port } of ports ?? []) {
        const number = name === undefined ? undefined : shardPort.exec(name)?.[1];
        if (number === undefined || port === undefined) continue;
        candidates.push({
          hashKey: `${owner}/${name}`,
          address,
          port,
          metricsPort: ports?.find((other) => other.name === `metrics-${number}`)?.port ?? port + metricsPortDistance,
          health: healthOf(endpoint),
          zone: endpoint.zone ?? '',
          node: endpoint.nodeName ?? '',
          weight: weight ?? 1,
          createdAt: pod?.creationTimestamp === undefined ? Number.POSITIVE_INFINITY : timeOf(pod.creationTimestamp),
          podUid: endpoint.targetRef?.uid ?? pod?.uid ?? '',
        });
      }
    }
  }
  return { candidates, problems: [...problems].sort() };
}

/** `serving` before `ready`: a Service that publishes addresses which are not ready calls them all ready. A missing condition means yes. */
function healthOf({ conditions = {} }: V1Endpoint): Health {
  const serves = conditions.serving ?? conditions.ready ?? true;
  if (!serves) return 'UNHEALTHY';
  return conditions.terminating ? 'DRAINING' : 'HEALTHY';
}

/** Undefined for an annotation that cannot be used. */
function weightOf(pod: V1ObjectMeta | undefined): number | undefined {
  const text = pod?.annotations?.[weightAnnotation];
  if (text === undefined) return 1;
  const weight = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  return weight >= 1 && weight <= maxWeight ? weight : undefined;
}

/** Raw watches give times as text, client-node's calls as Date or its subclass. */
function timeOf(time: Date | string): number {
  return typeof time === 'string' ? Date.parse(time) : time.getTime();
}
