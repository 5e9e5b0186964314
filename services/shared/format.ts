/** Pure: formats numbers for people. */

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** `1.5 KiB`. Numbers of `roundFrom` or more have no decimal. */
export function formatBytes(bytes: number, { roundFrom = Number.POSITIVE_INFINITY }: { roundFrom?: number } = {}): string {
  let unit = 0;
  let rest = bytes;
  for (; rest >= 1024 && unit < byteUnits.length - 1; unit += 1) rest /= 1024;
  return `${rest.toFixed(unit === 0 || rest >= roundFrom ? 0 : 1)} ${byteUnits[unit]}`;
}

/** `45 s`, `12 min`, `7.5 h`, `3.0 d`. */
export function formatDuration(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7_200) return `${(seconds / 60).toFixed(0)} min`;
  return seconds < 172_800 ? `${(seconds / 3_600).toFixed(1)} h` : `${(seconds / 86_400).toFixed(1)} d`;
}

export function formatPercent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

/** `20,000`. */
export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}
