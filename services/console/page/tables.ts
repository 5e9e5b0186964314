/** Pure: the tables of the status page. */

import type { DatasetUse } from '../../shared/datasets-api.ts';
import { formatDuration } from '../../shared/format.ts';
import { refusals as decisions } from '../readings/part-readings.ts';
import { breakable, bytes, count, mark, percent, plural, ratio, time } from './format.ts';
import { type Html, html } from './html.ts';
import type { EnvoyStatus, NamespaceStatus, PartStatus, RefusalStatus, ShardStatus, Status } from './status.ts';

/** Maximum number of rows. A longer page would not be readable. */
const maxRows = 1_000;
const maxRefusalRows = 100;

interface Column {
  readonly name: string;
  /** Not shown on a small screen. */
  readonly isWide?: boolean;
}

interface TableOptions<T> {
  readonly id: string;
  readonly name: string;
  readonly columns: readonly Column[];
  readonly rows: readonly T[];
  readonly show: (row: T) => Html;
  /** Text for a table without rows. */
  readonly nothing: string;
}

/** The table scrolls by keyboard, so it needs a tabindex and a name. */
function table<T>({ id, name, columns, rows, show, nothing }: TableOptions<T>): Html {
  const head = columns.map((column) =>
    column.isWide === true ? html`<th scope="col" class="wide">${column.name}</th>` : html`<th scope="col">${column.name}</th>`,
  );
  const body = rows.length === 0 ? [html`<tr><td colspan="${columns.length}">${nothing}</td></tr>`] : rows.slice(0, maxRows).map(show);
  const more = rows.length > maxRows ? html`<tr><td colspan="${columns.length}">${count(rows.length - maxRows)} more</td></tr>` : html``;
  return html`<div class="scroll" role="region" aria-label="${name}" tabindex="0"><table>
<thead><tr>${head}</tr></thead>
<tbody id="${id}" data-live>${body}${more}</tbody></table></div>`;
}

export function shardTable({ shards }: Status): Html {
  const zones = [...Map.groupBy(shards, ({ zone }) => zone)].sort(([one], [other]) => one.localeCompare(other));
  const columns = [
    { name: 'shard' },
    { name: 'fill' },
    { name: 'hit ratio' },
    { name: 'keys', isWide: true },
    { name: 'used', isWide: true },
    { name: 'of', isWide: true },
    { name: 'objects', isWide: true },
    { name: 'evicted', isWide: true },
    { name: 'last victim idle', isWide: true },
  ];
  const hasZones = zones.length > 1;
  const counts = zones.map(([zone, own]) => `${zone === '' ? 'no zone' : zone}: ${plural(own.length, 'shard')}`).join(', ');
  const intro = counts === '' ? 'There are no shards.' : `${counts}.`;
  return html`<p id="shard-zones" data-live>${intro} Keys: the share of all keys that the shard owns. Hit ratio and evictions count since the shard’s start.</p>
${table({
  id: 'shard-rows',
  name: 'Table of shards',
  columns,
  rows: zones.flatMap(([, own]) => own),
  show: (shard) => shardRow(shard, hasZones),
  nothing: 'There are no shards.',
})}`;
}

function shardRow({ hashKey, zone, health, address, port, weight, keyShare, isHeld, numbers }: ShardStatus, hasZones: boolean): Html {
  const where = [
    ...(address === '' ? [] : [`${address}:${port}`]),
    ...(hasZones && zone !== '' ? [zone] : []),
    ...(weight === 1 ? [] : [`weight ${weight}`]),
  ];
  const name = html`<th scope="row">${state({ health, isHeld, numbers })}<br>${breakable(hashKey)} <span class="quiet">${where.join(', ')}</span></th>`;
  const keys = html`<td class="wide">${percent(keyShare, 2)}</td>`;
  if (numbers === undefined) {
    const none = html`<td class="wide">–</td>`;
    return html`<tr>${name}<td>–</td><td>–</td>${keys}${none}${none}${none}${none}${none}</tr>\n`;
  }
  const { usedBytes, limitBytes, objects, totals, evicted, victimIdleSeconds } = numbers;
  const fill = usedBytes / limitBytes;
  return html`<tr>${name}<td>${bar(fill)} ${percent(fill)}</td><td>${ratio(totals.hits, totals.misses)}</td>${keys}<td class="wide">${bytes(usedBytes)}</td><td class="wide">${bytes(limitBytes)}</td><td class="wide">${count(objects)}</td><td class="wide">${count(evicted)}</td><td class="wide">${evicted === 0 ? '–' : formatDuration(victimIdleSeconds)}</td></tr>\n`;
}

function bar(share: number): Html {
  const width = Math.round(100 * Math.min(1, Math.max(0, share)));
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="10"/><rect class="hits" width="${width}" height="10"/></svg>`;
}

function state({ health, isHeld, numbers }: Pick<ShardStatus, 'health' | 'isHeld' | 'numbers'>): Html {
  if (isHeld) return mark('bad', 'no longer in Kubernetes; eds still lists it');
  if (numbers === undefined) return mark('bad', health === 'UNHEALTHY' ? 'not serving, no answer' : 'no answer');
  if (health === 'UNHEALTHY') return mark('bad', 'not serving');
  if (health === 'DRAINING') return mark('warn', 'draining');
  return numbers.isServing ? mark('good', 'healthy') : mark('bad', 'out of service');
}

export function namespaceTable({ namespaces }: Status): Html {
  const all = namespaces.reduce((total, each) => total + each.bytes, 0);
  const show = ({ namespace, objects, bytes: own, share }: NamespaceStatus) =>
    html`<tr><th scope="row">${namespace}</th><td>${bytes(own)}</td><td>${bar(all === 0 ? 0 : own / all)} ${percent(all === 0 ? undefined : own / all)}</td><td class="wide">${count(objects)}</td><td class="wide">${percent(share, 0)}</td></tr>\n`;
  return html`<p>What each namespace has stored, by who wrote it; those with most, over all shards that answer.</p>
${table({
  id: 'namespace-rows',
  name: 'Table of namespaces',
  columns: [
    { name: 'namespace' },
    { name: 'bytes' },
    { name: 'of all that is stored' },
    { name: 'objects', isWide: true },
    { name: 'share by policy', isWide: true },
  ],
  rows: namespaces,
  show,
  nothing: 'Nothing is stored.',
})}`;
}

export function datasetTable({ datasets, at }: Status): Html {
  const show = ({ prefix, objects, bytes: own, hits, misses, lastUsed }: DatasetUse) => {
    const idle = lastUsed === null ? '–' : formatDuration(Math.max(0, at.getTime() - Date.parse(lastUsed)) / 1000);
    return html`<tr><th scope="row">${breakable(prefix)}</th><td>${bytes(own)}</td><td>${ratio(hits, misses)}</td><td class="wide">${count(objects)}</td><td class="wide">${idle}</td></tr>\n`;
  };
  const since = datasets === undefined ? html`` : html` As of ${time(datasets.at)}.`;
  const missing = datasets?.complete === false ? html` ${mark('warn', 'A shard does not answer or counts its files.')}` : html``;
  return html`<p id="dataset-state" data-live>The first four segments of the keys, those with most bytes. Hits and misses count since the start of the shards.${since}${missing}</p>
${table({
  id: 'dataset-rows',
  name: 'Table of data sets',
  columns: [
    { name: 'data set' },
    { name: 'bytes' },
    { name: 'hit ratio' },
    { name: 'objects', isWide: true },
    { name: 'unused for', isWide: true },
  ],
  rows: datasets?.rows ?? [],
  show,
  nothing: datasets === undefined ? 'The shards are being asked.' : 'Nothing is stored.',
})}`;
}

/** Shown on a small screen too. */
const mainDecisions: ReadonlySet<string> = new Set(['forbidden', 'too-many-requests', 'unauthenticated']);
const decisionNames: Readonly<Record<(typeof decisions)[number], string>> = {
  forbidden: '403 by policy',
  'would-deny': 'denied in dry run',
  'too-many-requests': '429',
  'too-large': '413',
  unauthenticated: '401',
  unavailable: '503',
};

export function refusalTable({ refusals }: Status): Html {
  const show = ({ namespace, counts, shadow }: RefusalStatus) => {
    const cells = decisions.map((decision) => {
      const value = count(counts[decision] ?? 0);
      return mainDecisions.has(decision) ? html`<td>${value}</td>` : html`<td class="wide">${value}</td>`;
    });
    return html`<tr><th scope="row">${namespace}</th>${cells}<td class="wide">${count(shadow.deny ?? 0)}</td><td class="wide">${count(shadow.allow ?? 0)}</td></tr>\n`;
  };
  return html`<p>Checks of authz in the last hour that did not allow a request. A request with a grant needs no check.</p>
${table({
  id: 'refusal-rows',
  name: 'Table of refusals',
  columns: [
    { name: 'namespace' },
    ...decisions.map((decision) => ({ name: decisionNames[decision], isWide: !mainDecisions.has(decision) })),
    { name: 'next policy denies', isWide: true },
    { name: 'next policy allows', isWide: true },
  ],
  rows: refusals.slice(0, maxRefusalRows),
  show,
  nothing: 'authz refused nothing in the last hour.',
})}`;
}

export function envoyTable({ envoys }: Status): Html {
  const show = ({ node, zone, peer, connectedAt, acknowledged, isCurrent, refused }: EnvoyStatus) => {
    const has =
      refused !== undefined ? mark('bad', `rejected: ${refused}`) : isCurrent ? mark('good', 'up to date') : mark('warn', 'behind');
    return html`<tr><th scope="row">${has}<br>${node === '' ? '(no name yet)' : node} <span class="quiet">${peer}</span></th><td>${zone}</td><td class="wide"><code>${acknowledged ?? '–'}</code></td><td class="wide">${time(connectedAt)}</td></tr>\n`;
  };
  return html`<p>All Envoys that are connected to a replica of eds that answers.</p>
${table({
  id: 'envoy-rows',
  name: 'Table of Envoys',
  columns: [{ name: 'Envoy' }, { name: 'zone' }, { name: 'acknowledged', isWide: true }, { name: 'connected since', isWide: true }],
  rows: envoys,
  show,
  nothing: 'No Envoy is connected.',
})}`;
}

const partNames: Readonly<Record<PartStatus['kind'], string>> = {
  envoy: 'Envoy',
  authz: 'authz',
  eds: 'eds',
  origin: 'origin',
  console: 'console',
  shard: 'shard',
};

export function partTable({ parts }: Status): Html {
  // One row for each version: 1,000 shards have one in common, or two during an update.
  const groups = [...Map.groupBy(parts, ({ kind, version, answers }) => `${kind} ${version} ${answers}`).values()];
  const show = (group: readonly PartStatus[]) => {
    const [{ kind, version, answers }] = group as [PartStatus];
    const names = group.map(({ name }) => name);
    const shown = names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${count(names.length - 3)} more` : names.join(', ');
    return html`<tr><th scope="row">${partNames[kind]}</th><td>${count(group.length)}</td><td>${version === '' ? '–' : version}</td><td>${answers ? mark('good', 'answers') : mark('bad', 'no answer')}</td><td class="wide">${shown}</td></tr>\n`;
  };
  return table({
    id: 'part-rows',
    name: 'Table of parts',
    columns: [{ name: 'part' }, { name: 'number' }, { name: 'version' }, { name: 'state' }, { name: 'names', isWide: true }],
    rows: groups,
    show,
    nothing: 'No part is known.',
  });
}

export function policyPart({ policy }: Status): Html {
  if (policy === undefined) return html`<p id="policy-state" data-live>No authz answers, so the policy in force is not known.</p>`;
  const { inForce, problem, next, document } = policy;
  const lines = inForce.map(
    ({ hash, mode, since, authz }) =>
      html`<p>${mark('good', 'in force')}: document <code>${hash}</code>, mode ${mode}, at ${plural(authz, 'authz', 'authz')}, since ${time(since)}.</p>`,
  );
  const none = inForce.length === 0 ? html`<p>${mark('bad', 'no policy is in force')}</p>` : html``;
  const rejected = problem === undefined ? html`` : html`<p>${mark('bad', problem)}</p>`;
  const shadow =
    next === undefined
      ? html`<p>There is no next policy.</p>`
      : next.problem === undefined
        ? html`<p>${mark('good', 'next policy')}: document <code>${next.hash}</code> is evaluated but not enforced.</p>`
        : html`<p>${mark('warn', 'next policy rejected')}: document <code>${next.hash}</code>: ${next.problem}</p>`;
  return html`<div id="policy-state" data-live>${lines}${none}${rejected}${shadow}</div>
<details><summary>The document in force</summary><pre id="policy-text" data-live tabindex="0">${shortened(document ?? '')}</pre></details>`;
}

/** Longer documents are truncated. */
const maxShownCharacters = 64 * 1024;

function shortened(document: string): string {
  return document.length > maxShownCharacters ? `${document.slice(0, maxShownCharacters)}\n…` : document;
}
