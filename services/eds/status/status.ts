/** Pure: collects the data of the status page. */
import type { NamespaceNumbers, ShardNumbers } from '../../shared/shard-numbers.ts';
import { endpointType } from '../encoding.ts';
import type { Shard } from '../shard.ts';
import type { StreamView } from '../stream-list.ts';
import type { Minute } from './history.ts';
import type { KeyShares } from './key-shares.ts';
import type { PolicyView } from './policy.ts';

export interface ShardStatus extends Pick<Shard, 'hashKey' | 'zone' | 'health' | 'address' | 'port' | 'weight'> {
  /** Share of all keys, 0 to 1; undefined for a shard without keys. */
  readonly keyShare: number | undefined;
  readonly isHeld: boolean;
  /** Undefined when the shard did not respond. */
  readonly numbers: ShardNumbers | undefined;
}

export interface EnvoyStatus {
  readonly node: string;
  readonly zone: string;
  readonly peer: string;
  readonly connectedAt: Date;
  readonly acknowledged: string | undefined;
  readonly acknowledgedAt: Date | undefined;
  /** The Envoy has the current assignment for its zone. */
  readonly isCurrent: boolean;
  /** The Envoy's reason for rejecting an assignment. */
  readonly refused: string | undefined;
}

export interface NamespaceStatus extends Readonly<NamespaceNumbers> {
  readonly namespace: string;
}

export interface Status {
  readonly at: Date;
  readonly service: string;
  readonly version: string | undefined;
  readonly isAsking: boolean;
  /** The assignment is that of an earlier process of eds, because the Kubernetes API has not answered since its start. */
  readonly isStale: boolean;
  readonly shards: readonly ShardStatus[];
  readonly envoys: readonly EnvoyStatus[];
  /** Sorted by size, the largest first. */
  readonly namespaces: readonly NamespaceStatus[];
  readonly minutes: readonly Minute[];
  readonly countedSince: Date;
  readonly policy: PolicyView | undefined;
}

interface StatusSources {
  readonly at: Date;
  readonly service: string;
  readonly isAsking: boolean;
  readonly isStale: boolean;
  readonly shards: readonly Shard[];
  readonly held: readonly string[];
  readonly streams: Iterable<StreamView>;
  readonly versionFor: (zone: string) => string | undefined;
  readonly numbersOf: (hashKey: string) => ShardNumbers | undefined;
  readonly keyShares: KeyShares;
  readonly minutes: readonly Minute[];
  readonly countedSince: Date;
  readonly policy: PolicyView | undefined;
}

const maxNamespaces = 100;

export function statusOf(sources: StatusSources): Status {
  const { at, service, isAsking, isStale, minutes, countedSince, policy, versionFor } = sources;
  const held = new Set(sources.held);
  const shards = sources.shards.map(({ hashKey, zone, health, address, port, weight }) => ({
    ...{ hashKey, zone, health, address, port, weight },
    keyShare: sources.keyShares.get(hashKey),
    isHeld: held.has(hashKey),
    numbers: sources.numbersOf(hashKey),
  }));
  const envoys = [...sources.streams].map((stream) => envoyOf(stream, { service, versionFor }));
  envoys.sort((one, other) => one.node.localeCompare(other.node));
  const namespaces = namespacesOf(shards);
  return { at, service, version: versionFor(''), isAsking, isStale, shards, envoys, namespaces, minutes, countedSince, policy };
}

function envoyOf(stream: StreamView, { service, versionFor }: Pick<StatusSources, 'service' | 'versionFor'>): EnvoyStatus {
  const entry = stream.subscriptions.get(endpointType);
  const acknowledged = entry?.subscription.acknowledged ?? entry?.subscription.broughtVersion(service);
  const refused = entry?.subscription.refused;
  return {
    node: stream.node,
    zone: stream.zone,
    peer: stream.peer,
    connectedAt: stream.openedAt,
    acknowledged,
    acknowledgedAt: entry?.lastAcknowledgedAt,
    isCurrent: acknowledged !== undefined && acknowledged === versionFor(stream.zone),
    refused: refused?.reason,
  };
}

function namespacesOf(shards: readonly ShardStatus[]): NamespaceStatus[] {
  const sums = new Map<string, NamespaceNumbers>();
  for (const { numbers } of shards) {
    for (const [namespace, { objects, bytes, share }] of numbers?.namespaces ?? []) {
      const sum = sums.get(namespace) ?? { objects: 0, bytes: 0, share: undefined };
      sum.objects += objects;
      sum.bytes += bytes;
      sum.share = share ?? sum.share;
      sums.set(namespace, sum);
    }
  }
  return [...sums]
    .map(([namespace, sum]) => ({ namespace, ...sum }))
    .sort((one, other) => other.bytes - one.bytes)
    .slice(0, maxNamespaces);
}
