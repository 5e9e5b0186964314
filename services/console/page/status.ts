/** Pure: collects the data of the status page. */

import type { Shard } from '../../shared/shard-endpoints.ts';
import type { NamespaceNumbers, ShardNumbers } from '../../shared/shard-numbers.ts';
import type { DatasetsOverview } from '../datasets/overview.ts';
import { boundOf99Percent, type Minute, total, totals } from '../readings/history.ts';
import type { Assignment, AuthzReading, EdsReading, EnvoyReading, PolicyReport } from '../readings/part-readings.ts';
import type { Part, PartKind } from '../readings/parts.ts';
import { type Finding, findingsOf } from './findings.ts';
import type { KeyShares } from './key-shares.ts';

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
  /** The Envoy has the current assignment for its zone. */
  readonly isCurrent: boolean;
  /** The Envoy's reason for rejecting an assignment. */
  readonly refused: string | undefined;
}

export interface PartStatus {
  readonly kind: PartKind | 'shard';
  readonly name: string;
  readonly answers: boolean;
  readonly version: string;
}

export interface NamespaceStatus extends Readonly<NamespaceNumbers> {
  readonly namespace: string;
}

export interface RefusalStatus {
  readonly namespace: string;
  /** By decision, in the last hour. */
  readonly counts: Readonly<Record<string, number>>;
  /** Checks that the next policy would decide differently: allow or deny. */
  readonly shadow: Readonly<Record<string, number>>;
}

/** The policy as all authz report it. */
interface PolicyStatus {
  /** One for each document that an authz enforces; more than one only for a moment. */
  readonly inForce: readonly { readonly hash: string; readonly mode: string; readonly since: Date; readonly authz: number }[];
  readonly document: string | undefined;
  readonly problem: string | undefined;
  readonly next: { readonly hash: string; readonly problem: string | undefined } | undefined;
}

export interface Traffic {
  readonly hits: number;
  readonly misses: number;
  readonly puts: number;
  readonly others: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Of Envoy. */
  readonly responses: number;
  readonly errors: number;
  /** 99 % of the responses ended within this time. */
  readonly withinMs: number | undefined;
}

export interface Status {
  readonly at: Date;
  readonly service: string;
  readonly findings: readonly Finding[];
  readonly version: string | undefined;
  readonly shards: readonly ShardStatus[];
  readonly envoys: readonly EnvoyStatus[];
  readonly parts: readonly PartStatus[];
  /** Sorted by size, the largest first. */
  readonly namespaces: readonly NamespaceStatus[];
  /** Undefined before the shards were asked. */
  readonly datasets: DatasetsOverview | undefined;
  readonly refusals: readonly RefusalStatus[];
  readonly policy: PolicyStatus | undefined;
  /** The last hour. */
  readonly minutes: readonly Minute[];
  /** The last 24 hours, in parts of 15 minutes. */
  readonly quarters: readonly Minute[];
  /** The last 5 minutes, 15 minutes, hour and day. */
  readonly traffic: Readonly<Record<'recent' | 'quarter' | 'hour' | 'day', Traffic>>;
}

export interface StatusSources {
  readonly at: Date;
  readonly service: string;
  /** False while the Kubernetes API sends nothing. */
  readonly isListCurrent: boolean;
  readonly shards: readonly Shard[];
  readonly parts: readonly Part[];
  readonly shardReadings: ReadonlyMap<string, { readonly numbers: ShardNumbers; readonly version: string | undefined }>;
  readonly eds: ReadonlyMap<string, EdsReading>;
  readonly authz: ReadonlyMap<string, AuthzReading>;
  readonly envoys: ReadonlyMap<string, EnvoyReading>;
  readonly others: ReadonlyMap<string, string>;
  readonly assignment: Assignment | undefined;
  readonly keyShares: KeyShares;
  readonly datasets: DatasetsOverview | undefined;
  /** The last 24 hours, one entry for each minute. */
  readonly day: readonly Minute[];
}

const maxNamespaces = 100;
const endpointType = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';
const trafficNames = ['hits', 'misses', 'puts', 'others', 'sentBytes', 'receivedBytes', 'responses', 'errors'] as const;
const quarterMinutes = 15;

export function statusOf(sources: StatusSources): Status {
  const { at, service, assignment, day } = sources;
  const shards = shardsOf(sources);
  const envoys = [...sources.eds.values()].flatMap(({ streams }) => streams.map(envoyOf));
  envoys.sort((one, other) => one.node.localeCompare(other.node));
  const status = {
    at,
    service,
    version: assignment?.version ?? undefined,
    shards,
    envoys,
    parts: partsOf(sources),
    namespaces: namespacesOf(shards),
    datasets: sources.datasets,
    refusals: refusalsOf(day.slice(-60)),
    policy: policyOf([...sources.authz.values()].map(({ policy }) => policy)),
    minutes: day.slice(-60),
    quarters: quartersOf(day),
    traffic: { recent: trafficOf(day.slice(-5)), quarter: trafficOf(day.slice(-15)), hour: trafficOf(day.slice(-60)), day: trafficOf(day) },
  };
  return { ...status, findings: findingsOf({ ...status, isListCurrent: sources.isListCurrent, isStale: assignment?.isStale === true }) };
}

function shardsOf({ shards, assignment, shardReadings, keyShares }: StatusSources): ShardStatus[] {
  const held = new Set(assignment?.held);
  const listed = shards.map(({ hashKey, zone, health, address, port, weight }): ShardStatus => {
    const [keyShare, numbers] = [keyShares.get(hashKey), shardReadings.get(hashKey)?.numbers];
    return { hashKey, zone, health, address, port, weight, keyShare, isHeld: held.delete(hashKey), numbers };
  });
  // Kubernetes does not list them any longer, but eds still sends them to Envoy.
  const lost = [...held].map((hashKey): ShardStatus => {
    return {
      hashKey,
      zone: '',
      health: 'UNHEALTHY',
      address: '',
      port: 0,
      weight: 1,
      keyShare: undefined,
      isHeld: true,
      numbers: undefined,
    };
  });
  return [...listed, ...lost];
}

function envoyOf({ node, zone, peer, openedAt, isCurrent, types }: EdsReading['streams'][number]): EnvoyStatus {
  const endpoints = types[endpointType];
  const refused = endpoints?.refused?.reason;
  return { node, zone, peer, connectedAt: new Date(openedAt), acknowledged: endpoints?.acknowledged ?? undefined, isCurrent, refused };
}

function partsOf({ parts, shards, shardReadings, eds, authz, envoys, others }: StatusSources): PartStatus[] {
  const own = parts.map(({ kind, name, tag }): PartStatus => {
    const read = { eds, authz }[kind as string]?.get(name);
    const other = others.get(`${kind}/${name}`);
    const answers = read !== undefined || other !== undefined || (kind === 'envoy' && envoys.has(name));
    return { kind, name, answers, version: read?.version ?? other ?? tag };
  });
  const cache = shards.map(({ hashKey }): PartStatus => {
    const reading = shardReadings.get(hashKey);
    return { kind: 'shard', name: hashKey, answers: reading !== undefined, version: reading?.version ?? '' };
  });
  return [...own, ...cache];
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

function refusalsOf(minutes: readonly Minute[]): RefusalStatus[] {
  const rows = new Map<string, { counts: Record<string, number>; shadow: Record<string, number> }>();
  for (const [start, field] of [
    ['refused ', 'counts'],
    ['shadow ', 'shadow'],
  ] as const) {
    for (const [name, count] of totals(minutes, start)) {
      const [decision = '', namespace = ''] = name.split(' ', 2);
      const row = rows.get(namespace) ?? { counts: {}, shadow: {} };
      row[field][decision] = count;
      rows.set(namespace, row);
    }
  }
  const all = ({ counts, shadow }: RefusalStatus): number =>
    [...Object.values(counts), ...Object.values(shadow)].reduce((sum, count) => sum + count, 0);
  return [...rows].map(([namespace, row]) => ({ namespace, ...row })).sort((one, other) => all(other) - all(one));
}

function policyOf(reports: readonly PolicyReport[]): PolicyStatus | undefined {
  if (reports.length === 0) return undefined;
  const enforced = reports.flatMap(({ inForce }) => (inForce === undefined ? [] : [inForce]));
  const inForce = [...Map.groupBy(enforced, ({ hash }) => hash)].map(([hash, same]) => ({
    hash,
    mode: same[0]?.mode ?? '',
    // Each authz knows since when it enforces the document. The earliest time is the best answer.
    since: new Date(Math.min(...same.map(({ since }) => Date.parse(since)))),
    authz: same.length,
  }));
  inForce.sort((one, other) => other.authz - one.authz);
  const next = reports.find((report) => report.next !== undefined)?.next;
  return {
    inForce,
    document: enforced.find(({ hash }) => hash === inForce[0]?.hash)?.document,
    problem: reports.find(({ problem }) => problem !== undefined)?.problem,
    next: next === undefined ? undefined : { hash: next.hash, problem: next.problem },
  };
}

function trafficOf(minutes: readonly Minute[]): Traffic {
  const sums = Object.fromEntries(trafficNames.map((name) => [name, total(minutes, name)]));
  return { ...(sums as unknown as Traffic), withinMs: boundOf99Percent(minutes) };
}

function quartersOf(day: readonly Minute[]): Minute[] {
  const quarters = Math.floor(day.length / quarterMinutes);
  return Array.from({ length: quarters }, (_, index) => {
    const minutes = day.slice(index * quarterMinutes, (index + 1) * quarterMinutes);
    const counts = Object.fromEntries(trafficNames.map((name) => [name, total(minutes, name)]));
    return { minute: minutes[0]?.minute ?? 0, counts };
  });
}
