/** Pure: the status page. It works without its script, which only fetches the page again and replaces the parts marked `data-live`. */
import { charts } from './chart.ts';
import { bytes, count, mark, percent, ratio, time, within } from './format.ts';
import { type Html, html } from './html.ts';
import type { Status, Traffic } from './status.ts';
import { datasetTable, envoyTable, namespaceTable, partTable, policyPart, refusalTable, shardTable } from './tables.ts';

export interface PageAssets {
  readonly style: string;
  readonly script: string;
}

export function pageOf(status: Status, { style, script }: PageAssets): string {
  const parts: readonly { id: string; title: string; body: Html }[] = [
    { id: 'traffic', title: 'Traffic', body: traffic(status) },
    { id: 'shards', title: 'Shards', body: shardTable(status) },
    { id: 'namespaces', title: 'Namespaces', body: namespaceTable(status) },
    { id: 'datasets', title: 'Data sets', body: datasetTable(status) },
    { id: 'refusals', title: 'Refusals', body: refusalTable(status) },
    { id: 'policy', title: 'Policy', body: policyPart(status) },
    { id: 'envoys', title: 'Envoys', body: envoyTable(status) },
    { id: 'parts', title: 'Parts', body: partTable(status) },
  ];
  const links = parts.map(({ id, title }) => html`<a href="#${id}">${title}</a>`);
  const sections = parts.map(
    ({ id, title, body }) => html`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>${body}</section>\n`,
  );
  const page = html`<header>
<h1>kura <span class="quiet">${status.service}</span></h1>
<div id="state" data-live>${state(status)}</div>
<p>As of <span id="at" data-live>${time(status.at)}</span>. <span id="live" role="status"></span> <button id="pause" type="button" hidden aria-pressed="false">Pause</button></p>
<nav aria-label="Parts of this page">${links}</nav>
</header>
<main>
<div id="summary" data-live>${summary(status)}</div>
${sections}</main>
<footer>Served by one replica of the console. Each replica keeps a history of 24 hours. <a href="status.json">As JSON</a>.</footer>`;
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

/** Of the name of an assignment, in a tile. The table of Envoys has all of it. */
const shownDigits = 8;
/** A page with more findings than this is not readable. */
const maxFindings = 10;

/** The first line of the page. */
function state({ findings }: Status): Html {
  if (findings.length === 0) return html`<p class="state">${mark('good', 'Everything is in order.')}</p>`;
  const lines = findings.slice(0, maxFindings).map(({ level, text }) => html`<li>${mark(level, text)}</li>`);
  return html`<ul class="state">${lines}</ul>`;
}

function summary({ shards, envoys, traffic: { recent, hour }, version }: Status): Html {
  const known = shards.flatMap(({ numbers }) => (numbers === undefined ? [] : [numbers]));
  const serving = shards.filter(({ health, numbers }) => health === 'HEALTHY' && numbers?.isServing === true).length;
  const used = known.reduce((total, { usedBytes }) => total + usedBytes, 0);
  const limit = known.reduce((total, { limitBytes }) => total + limitBytes, 0);
  const current = envoys.filter(({ isCurrent }) => isCurrent).length;
  const ofThose = known.length === shards.length ? '' : `, of the ${count(known.length)} that answer`;
  const tile = (name: string, value: string | Html, more: string) =>
    html`<div><dt>${name}</dt><dd><strong>${value}</strong> <span>${more}</span></dd></div>`;
  const ofHour = (value: string) => (hour.responses === 0 ? 'no responses in the last hour' : `${value} in the last hour`);
  return html`<dl class="tiles">
${tile('Shards in service', `${serving} of ${shards.length}`, `${known.length} answer`)}
${tile('Requests, last hour', count(hour.responses), `${count(recent.responses / 300)} a second in the last 5 minutes`)}
${tile('Hit ratio, last hour', ratio(hour.hits, hour.misses), `of ${count(hour.hits + hour.misses)} GETs`)}
${tile('Errors (5xx), 5 minutes', errorShare(recent), ofHour(count(hour.errors)))}
${tile('Response time p99, 5 minutes', within(recent.withinMs), ofHour(within(hour.withinMs)))}
${tile('Read, last hour', bytes(hour.sentBytes), `${bytes(hour.receivedBytes)} written`)}
${tile('Stored', bytes(used), `${percent(limit === 0 ? undefined : used / limit)} of ${bytes(limit)}${ofThose}`)}
${tile('Envoys up to date', `${current} of ${envoys.length}`, `assignment ${version?.slice(0, shownDigits) ?? '–'}`)}
</dl>`;
}

function errorShare({ responses, errors }: Traffic): Html {
  if (responses === 0) return html`–`;
  const text = percent(errors / responses, 2);
  return mark(errors > 0.001 * responses ? 'bad' : 'good', text);
}

function traffic(status: Status): Html {
  const rows = (
    [
      ['5 minutes', status.traffic.recent],
      ['15 minutes', status.traffic.quarter],
      ['hour', status.traffic.hour],
      ['24 hours', status.traffic.day],
    ] as const
  ).map(
    ([name, sum]) =>
      html`<tr><th scope="row">${name}</th><td>${count(sum.responses)}</td><td>${count(sum.errors)}</td><td>${within(sum.withinMs)}</td><td>${ratio(sum.hits, sum.misses)}</td><td class="wide">${count(sum.hits)}</td><td class="wide">${count(sum.misses)}</td><td class="wide">${count(sum.puts)}</td><td class="wide">${count(sum.others)}</td><td class="wide">${bytes(sum.sentBytes)}</td><td class="wide">${bytes(sum.receivedBytes)}</td></tr>`,
  );
  const head = [
    ...['the last', 'responses', 'errors', 'p99', 'hit ratio'].map((name) => html`<th scope="col">${name}</th>`),
    ...['hits', 'misses', 'PUTs', 'others', 'read', 'written'].map((name) => html`<th scope="col" class="wide">${name}</th>`),
  ];
  return html`<div id="charts" data-live>${charts({ minutes: status.minutes, quarters: status.quarters })}</div>
<div class="scroll" role="region" aria-label="Totals of traffic" tabindex="0"><table>
<thead><tr>${head}</tr></thead>
<tbody id="traffic-rows" data-live>${rows}</tbody></table></div>
<p class="quiet">Envoy counts responses, errors and times. The shards count the rest.</p>`;
}
