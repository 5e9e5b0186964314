/** Pure: Events are kept as the core group's and shown to clients of events.k8s.io under that group's field names. */
import type { ObjectInput, StoredObject } from './object.ts';
import type { Resource } from './resources.ts';
import { type FieldProblem, invalid } from './status.ts';

/** events.k8s.io/v1 → v1. */
const coreNames: Readonly<Record<string, string>> = {
  regarding: 'involvedObject',
  note: 'message',
  reportingController: 'reportingComponent',
  deprecatedSource: 'source',
  deprecatedFirstTimestamp: 'firstTimestamp',
  deprecatedLastTimestamp: 'lastTimestamp',
  deprecatedCount: 'count',
};
const groupNames = Object.fromEntries(Object.entries(coreNames).map(([name, core]) => [core, name]));

function isGroupEvent({ plural, group }: Resource): boolean {
  return plural === 'events' && group !== '';
}

/** An input as it is kept. */
export function asKept(resource: Resource, input: ObjectInput): ObjectInput {
  return isGroupEvent(resource) ? (renamed(input, coreNames) as ObjectInput) : input;
}

/** A kept object as clients of the resource see it. */
export function asShown(resource: Resource, object: StoredObject): StoredObject {
  if (!isGroupEvent(resource)) return object;
  const { reportingComponent, reportingInstance, ...rest } = object;
  const reporter = { ...(reportingComponent ? { reportingComponent } : {}), ...(reportingInstance ? { reportingInstance } : {}) };
  return renamed({ ...rest, ...reporter }, groupNames) as StoredObject;
}

/** events.k8s.io asks for more than the core group: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ */
export function requireNewEvent(resource: Resource, input: ObjectInput): void {
  if (!isGroupEvent(resource)) return;
  // An Event without a time is held against the core group's rules beyond these two.
  const fields = input.eventTime ? ['reportingController', 'reportingInstance', 'action', 'reason'] : ['eventTime'];
  const problems: FieldProblem[] = fields
    .filter((field) => !input[field])
    .map((field) => ({ field, reason: 'FieldValueRequired', message: 'Required value' }));
  if (input.type !== 'Normal' && input.type !== 'Warning') {
    const message = `Invalid value: ${JSON.stringify(input.type ?? '')}: has invalid value: ${input.type ?? ''}`;
    problems.push({ field: 'type', reason: 'FieldValueInvalid', message });
  }
  if (problems.length > 0) throw invalid({ kind: resource.kind, group: '' }, input.metadata?.name ?? '', problems);
}

function renamed(object: object, names: Readonly<Record<string, string>>): object {
  return Object.fromEntries(Object.entries(object).map(([field, value]) => [names[field] ?? field, value]));
}
