/** Pure: what is wrong, for the first line of the page. */
import { percent, plural } from './format.ts';
import type { Status } from './status.ts';

export interface Finding {
  /** `bad` needs a person now. */
  readonly level: 'bad' | 'warn';
  readonly text: string;
}

type Sources = Omit<Status, 'findings'> & { readonly isListCurrent: boolean; readonly isStale: boolean };

/** Part of the responses of Envoy that may have a status from 500 on. */
const maxErrorShare = 0.001;
/** A finding lists so many names. */
const maxNames = 3;

/** The worst findings come first. */
export function findingsOf(sources: Sources): Finding[] {
  const findings = [...ofShards(sources), ...ofTraffic(sources), ...ofPolicy(sources), ...ofEnvoys(sources), ...ofParts(sources)];
  if (!sources.isListCurrent) findings.push(bad('The Kubernetes API does not answer the console; the lists of Pods and shards are old.'));
  if (sources.isStale)
    findings.push(bad('The Kubernetes API has not answered since the start of eds. eds sends the shards that it saved before its start.'));
  return findings.sort((one, other) => Number(one.level === 'warn') - Number(other.level === 'warn'));
}

function ofShards({ shards }: Sources): Finding[] {
  if (shards.length === 0) return [bad('There are no shards.')];
  const silent = shards.filter(({ numbers, isHeld }) => numbers === undefined && !isHeld);
  const held = shards.filter(({ isHeld }) => isHeld);
  const out = shards.filter(({ numbers, health }) => numbers !== undefined && (!numbers.isServing || health === 'UNHEALTHY'));
  const draining = shards.filter(({ health }) => health === 'DRAINING');
  const nameOf = ({ hashKey }: { hashKey: string }): string => hashKey;
  return [
    ...some(silent, 'bad', (count) => `${plural(count, 'shard')} ${count === 1 ? 'does' : 'do'} not answer`, nameOf),
    ...some(out, 'bad', (count) => `${plural(count, 'shard')} ${count === 1 ? 'is' : 'are'} out of service`, nameOf),
    ...some(
      held,
      'bad',
      (count) => `${plural(count, 'shard')} vanished from Kubernetes together, and eds still lists ${count === 1 ? 'it' : 'them'}`,
      nameOf,
    ),
    ...some(draining, 'warn', (count) => `${plural(count, 'shard')} ${count === 1 ? 'is' : 'are'} draining`, nameOf),
  ];
}

function ofTraffic({ traffic }: Sources): Finding[] {
  const { responses, errors } = traffic.recent;
  if (errors <= maxErrorShare * responses) return [];
  return [bad(`${percent(errors / responses, 2)} of the responses in the last 5 minutes are errors (5xx).`)];
}

function ofPolicy({ policy }: Sources): Finding[] {
  if (policy === undefined) return [];
  const [first, ...others] = policy.inForce;
  const findings: Finding[] = [];
  if (policy.problem !== undefined) {
    const stays = first === undefined ? 'No policy is in force.' : `Policy ${first.hash} stays in force.`;
    findings.push(bad(`${capitalised(policy.problem)}. ${stays}`));
  }
  if (others.length > 0) findings.push(warn(`authz enforce ${others.length + 1} different policies.`));
  if (policy.next?.problem !== undefined) findings.push(warn(`The next policy is rejected: ${policy.next.problem}.`));
  if (first !== undefined && first.mode !== 'enforce') findings.push(warn('The policy is in dry-run mode, so authz denies nothing.'));
  return findings;
}

function ofEnvoys({ envoys }: Sources): Finding[] {
  const nameOf = ({ node, peer }: { node: string; peer: string }): string => (node === '' ? peer : node);
  const rejecting = envoys.filter(({ refused }) => refused !== undefined);
  const behind = envoys.filter(({ refused, isCurrent }) => refused === undefined && !isCurrent);
  return [
    ...some(rejecting, 'bad', (count) => `${plural(count, 'Envoy')} rejected the list of shards`, nameOf),
    ...some(behind, 'warn', (count) => `${plural(count, 'Envoy')} ${count === 1 ? 'has' : 'have'} an old list of shards`, nameOf),
  ];
}

function ofParts({ parts }: Sources): Finding[] {
  const missing = (['eds', 'authz', 'envoy'] as const).filter((kind) => !parts.some((part) => part.kind === kind));
  const silent = parts.filter(({ kind, answers }) => kind !== 'shard' && !answers);
  return [
    ...missing.map((kind) => bad(`No Pod of ${kind === 'envoy' ? 'Envoy' : kind} runs.`)),
    ...some(
      silent,
      'bad',
      (count) => `${plural(count, 'part')} ${count === 1 ? 'does' : 'do'} not answer`,
      ({ kind, name }) => `${kind === 'envoy' ? 'Envoy' : kind} in ${name}`,
    ),
  ];
}

function some<T>(rows: readonly T[], level: Finding['level'], text: (count: number) => string, nameOf: (row: T) => string): Finding[] {
  if (rows.length === 0) return [];
  const more = rows.length > maxNames ? ` and ${rows.length - maxNames} more` : '';
  return [{ level, text: `${text(rows.length)}: ${rows.slice(0, maxNames).map(nameOf).join(', ')}${more}.` }];
}

function bad(text: string): Finding {
  return { level: 'bad', text };
}

function warn(text: string): Finding {
  return { level: 'warn', text };
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
