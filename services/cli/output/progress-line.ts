/** Pure: the progress line. */

import type { Amount } from '../../shared/average-rate.ts';
import { formatBytes, formatCount, formatDuration } from '../../shared/format.ts';

interface ProgressState {
  readonly label: string;
  readonly done: Amount;
  /** Undefined for a stream of unknown length. One object is counted in bytes only. */
  readonly total: Amount | undefined;
  readonly perSecond: Amount;
  readonly secondsLeft: number | undefined;
  /** Why the workers wait; empty if they do not. */
  readonly waitReason: string;
}

const minBarWidth = 5;
const maxBarWidth = 30;
const separator = ' · ';

/** The line for a terminal: with a bar as long as fits, and without its last parts if `columns` is small. */
export function progressLine(state: ProgressState, columns: number): string {
  const { label, total } = state;
  const parts = partsOf(state);
  // The cursor takes the last column.
  while (parts.length > 1 && label.length + 1 + parts.join(separator).length >= columns) parts.pop();
  const text = parts.join(separator);
  const width = Math.min(maxBarWidth, columns - label.length - text.length - 3);
  if (total === undefined || width < minBarWidth) return `${label} ${text}`;
  const full = Math.floor(shareOf(state) * width);
  return `${label} ${'█'.repeat(full)}${'░'.repeat(width - full)} ${text}`;
}

/** The line for a log. */
export function progressLogLine(state: ProgressState): string {
  return `${state.label}: ${partsOf(state).join(', ')}`;
}

/** The most important parts come first. */
function partsOf(state: ProgressState): string[] {
  const { done, total, perSecond, secondsLeft, waitReason } = state;
  const isMany = total !== undefined && total.objects > 0;
  const amount = isMany ? `${formatCount(done.objects)} of ${formatCount(total.objects)}` : formatBytes(done.bytes);
  return [
    ...(total === undefined ? [] : [`${Math.floor(shareOf(state) * 100)} %`]),
    amount,
    ...(waitReason === '' ? [] : [waitReason]),
    ...(total === undefined || secondsLeft === undefined ? [] : [`${formatDuration(secondsLeft)} left`]),
    `${formatBytes(perSecond.bytes)}/s`,
    ...(isMany ? [`${formatCount(Math.round(perSecond.objects))} objects/s`] : []),
  ];
}

function shareOf({ done, total }: ProgressState): number {
  if (total === undefined) return 0;
  const [part, whole] = total.objects > 0 ? [done.objects, total.objects] : [done.bytes, total.bytes];
  return whole === 0 ? 1 : Math.min(1, part / whole);
}
