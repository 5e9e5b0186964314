/** Pure: formats the numbers and times of the status page. */
import { formatBytes } from '../../shared/format.ts';
import { type Html, html } from './html.ts';

/** No decimal from 100 on, because the columns are narrow. */
export function bytes(value: number): string {
  return formatBytes(value, { roundFrom: 100 });
}

/** Thin spaces group the digits of large numbers. */
export function count(value: number): string {
  return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

export function percent(share: number | undefined, digits = 1): string {
  return share === undefined || !Number.isFinite(share) ? '–' : `${(100 * share).toFixed(digits)}\u202f%`;
}

export function ratio(part: number, other: number): string {
  return part + other === 0 ? '–' : percent(part / (part + other));
}

export function plural(number: number, one: string, more = `${one}s`): string {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** The bound of a histogram. */
export function within(ms: number | undefined): string {
  if (ms === undefined) return '–';
  if (ms === Number.POSITIVE_INFINITY) return 'more than all bounds';
  return ms < 1_000 ? `≤\u202f${ms}\u202fms` : `≤\u202f${ms / 1_000}\u202fs`;
}

/** In UTC, because readers may be in several time zones. */
export function time(at: Date | undefined): Html {
  if (at === undefined || Number.isNaN(at.getTime())) return html`–`;
  const text = at.toISOString();
  return html`<time datetime="${text}">${text.slice(0, 10)} ${text.slice(11, 19)} UTC</time>`;
}

/** Long names break at their slashes first. */
export function breakable(name: string): Html {
  const [first = '', ...others] = name.split('/');
  return html`${first}${others.map((segment) => html`/<wbr>${segment}`)}`;
}

/** Colour alone never carries the meaning. */
export function mark(kind: 'good' | 'warn' | 'bad', text: string): Html {
  const sign = { good: '●', warn: '▲', bad: '✕' }[kind];
  return html`<span class="${kind}"><span aria-hidden="true">${sign}</span> ${text}</span>`;
}
