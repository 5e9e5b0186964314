/** Pure: numbers and times as the status page says them. */
import { type Html, html } from './html.ts';

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(value: number): string {
  let unit = 0;
  let rest = value;
  for (; rest >= 1024 && unit < byteUnits.length - 1; unit += 1) rest /= 1024;
  return `${rest.toFixed(unit === 0 || rest >= 100 ? 0 : 1)} ${byteUnits[unit]}`;
}

/** With thin spaces, so that a number of seven digits can be read. */
export function count(value: number): string {
  return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

export function percent(share: number | undefined, digits = 1): string {
  return share === undefined || !Number.isFinite(share) ? '–' : `${(100 * share).toFixed(digits)}\u202f%`;
}

export function ratio(part: number, other: number): string {
  return part + other === 0 ? '–' : percent(part / (part + other));
}

export function duration(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7_200) return `${(seconds / 60).toFixed(0)} min`;
  return seconds < 172_800 ? `${(seconds / 3_600).toFixed(1)} h` : `${(seconds / 86_400).toFixed(1)} d`;
}

export function plural(number: number, one: string, more = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** In UTC, since its readers sit in several zones. */
export function time(at: Date | undefined): Html {
  if (at === undefined || Number.isNaN(at.getTime())) return html`–`;
  const text = at.toISOString();
  return html`<time datetime="${text}">${text.slice(0, 10)} ${text.slice(11, 19)} UTC</time>`;
}
