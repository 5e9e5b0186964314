/** Pure: Events are kept for an hour after they last happened, as the real API does; nobody else would ever delete them. */
import { isFields, type StoredObject } from './object.ts';

const lifeMs = 3_600_000;

export function isExpired(event: StoredObject, now: Date): boolean {
  const { series } = event;
  const times = [event.metadata.creationTimestamp, event.lastTimestamp, isFields(series) ? series.lastObservedTime : undefined];
  const last = Math.max(...times.map((time) => Date.parse(String(time))).filter((time) => !Number.isNaN(time)));
  return last + lifeMs < now.getTime();
}
