/** Pure: what a DELETE does to an object, https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination. */
import { type StoredObject, timestamp } from './object.ts';
import type { Resource } from './resources.ts';

export type Deletion =
  /** It goes; `last` is how watches see it before, where that differs. */
  | { readonly kind: 'remove'; readonly last: StoredObject | undefined }
  /** A Pod on a node, and what has a finalizer, stays, marked, until its kubelet deletes it with no grace or the finalizer is taken away. */
  | { readonly kind: 'mark'; readonly marked: StoredObject };

/** `graceSeconds` as the client asked, undefined for the kind's default. */
export function deletionOf({
  resource,
  object,
  graceSeconds,
  now,
}: {
  resource: Resource;
  object: StoredObject;
  graceSeconds: number | undefined;
  now: Date;
}): Deletion {
  const isPod = resource.plural === 'pods';
  const seconds = isPod ? podGrace(object, graceSeconds) : 0;
  const marked = mark(object, { seconds, now, showsGrace: resource.plural !== 'namespaces' });
  const isHeld = (object.metadata.finalizers?.length ?? 0) > 0;
  if (seconds > 0 || isHeld) return { kind: 'mark', marked };
  return { kind: 'remove', last: isToldApart(resource) && marked !== object ? marked : undefined };
}

/** Whose end is told as a change first and a deletion then. */
function isToldApart({ plural }: Resource): boolean {
  return plural === 'pods' || plural === 'namespaces';
}

/** Only what runs on a node is given time. */
function podGrace({ spec, status }: StoredObject, asked: number | undefined): number {
  const isRunning = Boolean(spec?.nodeName) && !['Succeeded', 'Failed'].includes(String(status?.phase));
  if (!isRunning) return 0;
  return asked ?? Number(spec?.terminationGracePeriodSeconds ?? 30);
}

/** A second deletion can only shorten the grace, counted from the first one. */
function mark(object: StoredObject, { seconds, now, showsGrace }: { seconds: number; now: Date; showsGrace: boolean }): StoredObject {
  const { deletionTimestamp, deletionGracePeriodSeconds = 0, generation } = object.metadata;
  if (deletionTimestamp !== undefined && deletionGracePeriodSeconds <= seconds) return object;
  const begunAt = deletionTimestamp === undefined ? now.getTime() : Date.parse(deletionTimestamp) - deletionGracePeriodSeconds * 1000;
  const counted = generation === undefined || deletionTimestamp !== undefined ? {} : { generation: generation + 1 };
  const metadata = {
    ...object.metadata,
    ...counted,
    deletionTimestamp: timestamp(new Date(begunAt + seconds * 1000)),
    ...(showsGrace ? { deletionGracePeriodSeconds: seconds } : {}),
  };
  return { ...object, metadata };
}
