/** Pure: what a DELETE does to an object, https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination. */
import type { StoredObject } from './store.ts';

const defaultGraceSeconds = 30;

export type Deletion =
  | { readonly kind: 'remove'; readonly marked: StoredObject | undefined }
  /** A Pod on a node stays, marked, until somebody (its kubelet) deletes it with no grace. */
  | { readonly kind: 'mark'; readonly marked: StoredObject };

/** `graceSeconds` as the client asked, undefined for the kind's default. */
export function deletionOf({
  object,
  isPod,
  graceSeconds,
  now,
}: {
  object: StoredObject;
  isPod: boolean;
  graceSeconds: number | undefined;
  now: Date;
}): Deletion {
  if (!isPod) return { kind: 'remove', marked: undefined };
  const isRunning = typeof object.spec?.nodeName === 'string' && !['Succeeded', 'Failed'].includes(String(object.status?.phase));
  const seconds = isRunning ? (graceSeconds ?? defaultGraceSeconds) : 0;
  const { deletionTimestamp } = object.metadata;
  const endsAt = new Date(now.getTime() + seconds * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
  if (seconds > 0 && deletionTimestamp !== undefined && deletionTimestamp <= endsAt) return { kind: 'mark', marked: object };
  const marked = { ...object, metadata: { ...object.metadata, deletionTimestamp: endsAt, deletionGracePeriodSeconds: seconds } };
  return seconds > 0 ? { kind: 'mark', marked } : { kind: 'remove', marked };
}
