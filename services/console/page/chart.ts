/** Pure: the bar charts of the last hour and of the last 24 hours. */

import { type Minute, total } from '../readings/history.ts';
import { bytes, count } from './format.ts';
import { type Html, html } from './html.ts';

const width = 720;
const height = 120;

interface Series {
  readonly name: string;
  readonly className: string;
  /** Name of the count. */
  readonly of: string;
}

interface ChartOptions {
  readonly title: string;
  /** The time of all bars, in words. */
  readonly span: string;
  /** One bar each. */
  readonly bars: readonly Minute[];
  readonly marks: number;
  readonly series: readonly Series[];
  readonly say: (value: number) => string;
}

const requests: readonly Series[] = [
  { name: 'hits', className: 'hits', of: 'hits' },
  { name: 'misses', className: 'misses', of: 'misses' },
  { name: 'PUTs', className: 'puts', of: 'puts' },
  { name: 'others', className: 'others', of: 'others' },
];
const transfer: readonly Series[] = [
  { name: 'read', className: 'hits', of: 'sentBytes' },
  { name: 'written', className: 'puts', of: 'receivedBytes' },
];
const errors: readonly Series[] = [{ name: 'errors', className: 'misses', of: 'errors' }];

export function charts({ minutes, quarters }: { minutes: readonly Minute[]; quarters: readonly Minute[] }): Html {
  const hour = { span: 'hour', bars: minutes, marks: 4 };
  const day = { span: '24 hours', bars: quarters, marks: 4 };
  return html`<div class="charts">
${chart({ title: 'Requests a minute', series: requests, say: count, ...hour })}
${chart({ title: 'Bytes a minute', series: transfer, say: bytes, ...hour })}
${chart({ title: 'Requests in 15 minutes', series: requests, say: count, ...day })}
${chart({ title: 'Errors (5xx) in 15 minutes', series: errors, say: count, ...day })}
</div>`;
}

/** Stacked bars. The accessible label contains the totals as text. */
function chart({ title, span, bars: minutes, marks: markCount, series, say }: ChartOptions): Html {
  const totalOf = (minute: Minute) => series.reduce((sum, { of }) => sum + (minute.counts[of] ?? 0), 0);
  const most = Math.max(...minutes.map(totalOf), 0);
  const step = width / minutes.length;
  const bars = minutes.flatMap((minute, index) => {
    let top = height;
    return series.flatMap(({ className, of }) => {
      const part = most === 0 ? 0 : ((minute.counts[of] ?? 0) / most) * (height - 8);
      if (part === 0) return [];
      top -= part;
      const [x, y] = [(index * step + 1).toFixed(1), top.toFixed(2)];
      return [html`<rect class="${className}" x="${x}" y="${y}" width="${(step - 2).toFixed(1)}" height="${part.toFixed(2)}"/>`];
    });
  });
  const marks = minutes.filter((_, index) => index % (minutes.length / markCount) === 0).map(clock);
  const words = series.map(({ name, of }) => `${say(total(minutes, of))} ${name}`).join(', ');
  const key = series.map(
    ({ name, className }) =>
      html`<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="${className}" width="10" height="10"/></svg> ${name}</li>`,
  );
  return html`<figure>
<figcaption>${title}, last ${span} <span class="quiet">maximum: ${say(most)}</span></figcaption>
<svg viewBox="0 0 ${width} ${height + 1}" role="img" aria-label="${title} over the last ${span}: ${words}, at most ${say(most)} in one bar">
<line class="axis" x1="0" x2="${width}" y1="${height}" y2="${height}"/>${bars}</svg>
<div class="clock" aria-hidden="true">${marks}</div>
<ul class="key">${key}</ul>
</figure>`;
}

/** The labels are outside the image, because the image shrinks on a small screen. */
function clock({ minute }: Minute): Html {
  return html`<span>${new Date(minute * 60_000).toISOString().slice(11, 16)}</span>`;
}
