/**
 * Pure: numbers of bytes and durations as text. Bytes are written as Kubernetes quantities: K, M, G and T are powers of 1000; Ki, Mi, Gi and
 * Ti are powers of 1024.
 */

/** Undefined for a string that is not a quantity, such as `12 GB`. */
export function parseQuantity(text: string): number | undefined {
  const match = /^(\d{1,15})(|[KMGT]i?)$/.exec(text);
  if (match === null) return undefined;
  const [, digits, unit = ''] = match;
  return Number(digits) * (unit.endsWith('i') ? 1024 : 1000) ** ' KMGT'.indexOf(unit[0] ?? ' ');
}

/** Uses the largest unit (a power of 1024) that is exact. */
export function formatQuantity(bytes: number): string {
  const step = [4, 3, 2, 1, 0].find((power) => bytes % 1024 ** power === 0) as number;
  return `${bytes / 1024 ** step}${['', 'Ki', 'Mi', 'Gi', 'Ti'][step]}`;
}

/** In milliseconds; undefined for a string that is not a number with a unit, such as `250ms`, `10s`, `5m` or `1h`. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  return match === null ? undefined : Number(match[1]) * durationUnits[match[2] as keyof typeof durationUnits];
}

const durationUnits = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
