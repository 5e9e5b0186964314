/** Pure: two bar charts of the last hour. */

import { bytes, count } from './format.ts';
import type { Minute } from './history.ts';
import { type Html, html } from './html.ts';

const width = 720;
const height = 120;

interface Series {
  readonly name: string;
  readonly className: string;
  readonly of: (minute: Minute) => number;
}

interface ChartOptions {
  readonly title: string;
  readonly minutes: readonly Minute[];
  readonly series: readonly Series[];
  readonly say: (value: number) => string;
}

export function charts(minutes: readonly Minute[]): Html {
  const requests: ChartOptions = {
    title: 'Requests a minute',
    minutes,
    series: [
      { name: 'hits', className: 'hits', of: ({ hits }) => hits },
      { name: 'misses', className: 'misses', of: ({ misses }) => misses },
      { name: 'PUTs', className: 'puts', of: ({ puts }) => puts },
      { name: 'others', className: 'others', of: ({ others }) => others },
    ],
    say: count,
  };
  const transfer: ChartOptions = {
    title: 'Bytes a minute',
    minutes,
    series: [
      { name: 'read', className: 'hits', of: ({ sentBytes }) => sentBytes },
      { name: 'written', className: 'puts', of: ({ receivedBytes }) => receivedBytes },
    ],
    say: bytes,
  };
  return html`<div class="charts">${chart(requests)}${chart(transfer)}</div>`;
}

/** One stacked bar per minute. The accessible label contains the totals as text. */
function chart({ title, minutes, series, say }: ChartOptions): Html {
  const totalOf = (minute: Minute) => series.reduce((total, { of }) => total + of(minute), 0);
  const most = Math.max(...minutes.map(totalOf), 0);
  const step = width / minutes.length;
  const bars = minutes.flatMap((minute, index) => {
    let top = height;
    return series.flatMap(({ className, of }) => {
      const part = most === 0 ? 0 : (of(minute) / most) * (height - 8);
      if (part === 0) return [];
      top -= part;
      const [x, y] = [(index * step + 1).toFixed(1), top.toFixed(2)];
      return [html`<rect class="${className}" x="${x}" y="${y}" width="${(step - 2).toFixed(1)}" height="${part.toFixed(2)}"/>`];
    });
  });
  const marks = minutes.filter((_, index) => index % 15 === 0).map(clock);
  const words = series.map(({ name, of }) => `${say(minutes.reduce((total, minute) => total + of(minute), 0))} ${name}`).join(', ');
  const key = series.map(
    ({ name, className }) =>
      html`<li><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="${className}" width="10" height="10"/></svg> ${name}</li>`,
  );
  return html`<figure>
<figcaption>${title} <span class="quiet">maximum: ${say(most)}</span></figcaption>
<svg viewBox="0 0 ${width} ${height + 1}" role="img" aria-label="${title} over the last hour: ${words}, at most ${say(most)} in one minute">
<line class="axis" x1="0" x2="${width}" y1="${height}" y2="${height}"/>${bars}</svg>
<div class="clock" aria-hidden="true">${marks}</div>
<ul class="key">${key}</ul>
</figure>`;
}

/** The labels are outside the image, because the image shrinks on a small screen. */
function clock({ minute }: Minute): Html {
  return html`<span>${new Date(minute * 60_000).toISOString().slice(11, 16)}</span>`;
}
