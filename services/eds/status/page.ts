/** Pure: the status page. It works without its script, which only fetches the page again and replaces the parts marked `data-live`. */
import { noTotals, type Totals } from '../../shared/shard-numbers.ts';
import { charts } from './chart.ts';
import { bytes, count, percent, ratio, time } from './format.ts';
import { sum } from './history.ts';
import { type Html, html } from './html.ts';
import type { Status } from './status.ts';
import { envoyTable, namespaceTable, policyPart, shardTable } from './tables.ts';

export interface PageAssets {
  readonly style: string;
  readonly script: string;
}

export function pageOf(status: Status, { style, script }: PageAssets): string {
  const parts: readonly { id: string; title: string; body: Html }[] = [
    { id: 'traffic', title: 'The last hour', body: traffic(status) },
    { id: 'shards', title: 'Shards', body: shardTable(status) },
    { id: 'namespaces', title: 'Namespaces', body: namespaceTable(status) },
    { id: 'envoys', title: 'Envoys', body: envoyTable(status) },
    { id: 'policy', title: 'Policy', body: policyPart(status) },
  ];
  const links = parts.map(({ id, title }) => html`<a href="#${id}">${title}</a>`);
  const sections = parts.map(
    ({ id, title, body }) => html`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>${body}</section>\n`,
  );
  const page = html`<header>
<h1>kura <span class="quiet">${status.service}</span></h1>
<p>As of <span id="at" data-live>${time(status.at)}</span>. <span id="live" role="status"></span> <button id="pause" type="button" hidden aria-pressed="false">Pause</button></p>
<nav aria-label="Parts of this page">${links}</nav>
</header>
<main>
<div id="summary" data-live>${summary(status)}</div>
${sections}</main>
<footer>Served by one replica of eds. Each replica counts the last hour separately. <a href="status.json">As JSON</a>, <a href="metrics">metrics of eds</a>, <a href="debug/streams">streams</a>.</footer>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>kura status</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
${page.text}
<script>${script}</script>
</body>
</html>
`;
}

function hourOf({ minutes }: Status): Totals {
  return minutes.reduce<Totals>((total, minute) => sum(total, minute), noTotals);
}

function summary(status: Status): Html {
  const { shards, envoys } = status;
  const known = shards.flatMap(({ numbers }) => (numbers === undefined ? [] : [numbers]));
  const serving = shards.filter(({ health, numbers }) => health === 'HEALTHY' && numbers?.isServing !== false).length;
  const used = known.reduce((total, { usedBytes }) => total + usedBytes, 0);
  const limit = known.reduce((total, { limitBytes }) => total + limitBytes, 0);
  const hour = hourOf(status);
  const current = envoys.filter(({ isCurrent }) => isCurrent).length;
  const tile = (name: string, value: string, more: string) =>
    html`<div><dt>${name}</dt><dd><strong>${value}</strong> <span>${more}</span></dd></div>`;
  const stale = status.isStale
    ? html`<p class="bad">The Kubernetes API has not answered since the start of this eds. The assignment is the one that it saved before.</p>\n`
    : html``;
  return html`${stale}<dl class="tiles">
${tile('Shards in service', `${serving} of ${shards.length}`, `${known.length} respond`)}
${tile('Stored', bytes(used), `${percent(limit === 0 ? undefined : used / limit)} of ${bytes(limit)}`)}
${tile('Hit ratio, last hour', ratio(hour.hits, hour.misses), `${count(hour.hits + hour.misses)} GETs`)}
${tile('Read, last hour', bytes(hour.sentBytes), `${bytes(hour.receivedBytes)} written`)}
${tile('Envoys up to date', `${current} of ${envoys.length}`, `assignment ${status.version ?? '–'}`)}
</dl>`;
}

function traffic(status: Status): Html {
  const { minutes, countedSince, isAsking } = status;
  if (!isAsking) return html`<p>eds does not read the metrics of the shards: KURA_EDS_STATUS_INTERVAL is 0.</p>`;
  const spans = [5, 15, 60].map((length) => {
    const total = minutes.slice(-length).reduce<Totals>((so, minute) => sum(so, minute), noTotals);
    return html`<tr><th scope="row">${length} minutes</th><td>${count(total.hits)}</td><td>${count(total.misses)}</td><td>${ratio(total.hits, total.misses)}</td><td>${count(total.puts)}</td><td>${count(total.others)}</td><td>${bytes(total.sentBytes)}</td><td>${bytes(total.receivedBytes)}</td></tr>`;
  });
  const since = html`<p class="quiet">Counted since ${time(countedSince)}.</p>`;
  return html`<div id="charts" data-live>${charts(minutes)}</div>
<div class="scroll" role="region" aria-label="Totals of the last hour" tabindex="0"><table>
<thead><tr><th scope="col">the last</th><th scope="col">hits</th><th scope="col">misses</th><th scope="col">hit ratio</th><th scope="col">PUTs</th><th scope="col">others</th><th scope="col">read</th><th scope="col">written</th></tr></thead>
<tbody id="traffic-rows" data-live>${spans}</tbody></table></div>${since}`;
}
