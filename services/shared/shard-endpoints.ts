/** Pure: reads the shards from the EndpointSlices and Pods of the cache Service. */
import type { V1Endpoint, V1EndpointSlice, V1ObjectMeta } from '@kubernetes/client-node';

export type Health = 'HEALTHY' | 'DRAINING' | 'UNHEALTHY';
export type Identity = 'pod' | 'node';

/** One shard as Envoy gets it. */
export interface Shard {
  /** The input of Maglev. It stays the same when the shard returns with another address. */
  readonly hashKey: string;
  readonly address: string;
  readonly port: number;
  /** Port of the metrics, on the same address. */
  readonly metricsPort: number;
  readonly health: Health;
  readonly zone: string;
  readonly node: string;
  /** Share of the keys relative to other shards, at least 1. */
  readonly weight: number;
}

/** One endpoint of one slice, with the data that decides between two endpoints that exclude each other. */
export interface Candidate extends Shard {
  /** When the Pod was created, in milliseconds. Infinity when unknown, so that a Pod with a known time counts as older. */
  readonly createdAt: number;
  readonly podUid: string;
}

export interface Reading {
  readonly candidates: readonly Candidate[];
  /** Values that could not be used as written, one line each. */
  readonly problems: readonly string[];
}

/** Pod annotation: the capacity of a Pod's shards relative to others. */
const weightAnnotation = 'kura/weight';
/** Envoy adds the weights of a locality in 32 bits. This limit leaves room for 4,000 shards with the largest weight. */
const maxWeight = 1_000_000;
const shardPort = /^shard-(\d+)$/;
/** Port offset of a shard's metrics, unless the slice has a port `metrics-<i>`. */
const metricsPortDistance = 100;

/** Reads all slices. `podOf` returns the metadata of a Pod by name, when it is known. */
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
      // In Kubernetes the addresses of one endpoint are interchangeable, and consumers use the first one.
      const address = endpoint.addresses[0];
      if (owner === undefined || address === undefined) {
        problems.add(`an endpoint of slice ${metadata?.name} has no ${address === undefined ? 'address' : `${identity} name`}`);
        continue;
      }
      const pod = podName === undefined ? undefined : podOf(podName);
      const weight = weightOf(pod);
      if (weight === undefined) problems.add(`Pod ${podName}: ${weightAnnotation} is not a whole number from 1 to ${maxWeight}; using 1`);
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

/** Uses `serving`, because a Service that publishes unready addresses reports all of them as ready. A missing condition means true. */
function healthOf({ conditions = {} }: V1Endpoint): Health {
  const serves = conditions.serving ?? conditions.ready ?? true;
  if (!serves) return 'UNHEALTHY';
  return conditions.terminating ? 'DRAINING' : 'HEALTHY';
}

/** Undefined for an invalid annotation. */
function weightOf(pod: V1ObjectMeta | undefined): number | undefined {
  const text = pod?.annotations?.[weightAnnotation];
  if (text === undefined) return 1;
  const weight = /^\d{1,7}$/.test(text) ? Number(text) : 0;
  return weight >= 1 && weight <= maxWeight ? weight : undefined;
}

/** Raw watches return times as strings, client-node's calls as Date or a subclass of it. */
function timeOf(time: Date | string): number {
  return typeof time === 'string' ? Date.parse(time) : time.getTime();
}
