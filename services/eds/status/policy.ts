/** The document in ConfigMap kura-policy, when it changed, and authz's Events about it. */
import { createHash } from 'node:crypto';
import type { CoreV1Event, V1ConfigMap } from '@kubernetes/client-node';

export const policyName = 'kura-policy';
const documentKey = 'policy.yaml';
/** Longer documents are truncated. */
const maxShownCharacters = 64 * 1024;

export interface PolicyView {
  readonly document: string;
  /** First digits of its SHA-256, as in authz's log and Events. */
  readonly hash: string;
  readonly changedAt: Date | undefined;
  readonly verdict:
    | { readonly kind: 'accepted'; readonly at: Date | undefined }
    | { readonly kind: 'rejected'; readonly at: Date | undefined; readonly message: string; readonly inForce: string | undefined }
    /** Kubernetes deletes Events after an hour. */
    | { readonly kind: 'unknown' };
}

/** Undefined without a ConfigMap. `seenAt` is when eds saw the change. */
export function viewPolicy(
  configMap: V1ConfigMap | undefined,
  events: Iterable<CoreV1Event>,
  seenAt: Date | undefined,
): PolicyView | undefined {
  const document = configMap?.data?.[documentKey];
  if (configMap === undefined || document === undefined) return undefined;
  const hash = createHash('sha256').update(document).digest('hex').slice(0, 12);
  const reports = [...events].filter(({ reason }) => reason === 'PolicyAccepted' || reason === 'PolicyRejected').sort(byTime);
  const last = reports.findLast(({ metadata }) => hashOf(metadata) === hash);
  return {
    document: document.length > maxShownCharacters ? `${document.slice(0, maxShownCharacters)}\n…` : document,
    hash,
    changedAt: lastWrite(configMap) ?? seenAt ?? timeOf(last),
    verdict: verdictOf(last, reports),
  };
}

/** authz updates the Event of a document when it reads this document again, so the newest one is about the present. */
function verdictOf(last: CoreV1Event | undefined, reports: readonly CoreV1Event[]): PolicyView['verdict'] {
  if (last === undefined) return { kind: 'unknown' };
  if (last.reason === 'PolicyAccepted') return { kind: 'accepted', at: timeOf(last) };
  const inForce = hashOf(reports.findLast(({ reason }) => reason === 'PolicyAccepted')?.metadata);
  return { kind: 'rejected', at: timeOf(last), message: last.message ?? '', inForce };
}

/** The last part of the name of an Event of authz. */
function hashOf(metadata: CoreV1Event['metadata'] | undefined): string | undefined {
  return metadata?.name?.split('.').at(-1);
}

function byTime(a: CoreV1Event, b: CoreV1Event): number {
  return Number(timeOf(a) ?? 0) - Number(timeOf(b) ?? 0);
}

/** When the data was last written. An API server notes this time for each writer. */
function lastWrite({ metadata }: V1ConfigMap): Date | undefined {
  const times = (metadata?.managedFields ?? [])
    .filter(({ fieldsV1, time }) => fieldsV1 !== undefined && 'f:data' in fieldsV1 && time !== undefined)
    .map(({ time }) => new Date(time as Date | string).getTime());
  return times.length === 0 ? undefined : new Date(Math.max(...times));
}

function timeOf(event: CoreV1Event | undefined): Date | undefined {
  const time = event?.lastTimestamp ?? event?.metadata.creationTimestamp;
  return time === undefined ? undefined : new Date(time);
}
