/** Pure: the tables of the status page. */
import { formatDuration } from '../../shared/format.ts';
import { bytes, count, percent, plural, ratio, time } from './format.ts';
import { type Html, html } from './html.ts';
import type { EnvoyStatus, NamespaceStatus, ShardStatus, Status } from './status.ts';

/** Maximum number of rows. A longer page would not be readable. */
const maxRows = 1_000;

interface TableOptions<T> {
  readonly id: string;
  readonly name: string;
  readonly columns: readonly string[];
  readonly rows: readonly T[];
  readonly show: (row: T) => Html;
  /** Text for a table without rows. */
  readonly nothing: string;
}

/** The table scrolls by keyboard, so it needs a tabindex and a name. */
function table<T>({ id, name, columns, rows, show, nothing }: TableOptions<T>): Html {
  const head = columns.map((column) => html`<th scope="col">${column}</th>`);
  const body = rows.length === 0 ? [html`<tr><td colspan="${columns.length}">${nothing}</td></tr>`] : rows.slice(0, maxRows).map(show);
  const more = rows.length > maxRows ? html`<tr><td colspan="${columns.length}">${count(rows.length - maxRows)} more</td></tr>` : html``;
  return html`<div class="scroll" role="region" aria-label="${name}" tabindex="0"><table>
<thead><tr>${head}</tr></thead>
<tbody id="${id}" data-live>${body}${more}</tbody></table></div>`;
}

export function shardTable({ shards }: Status): Html {
  const zones = [...Map.groupBy(shards, ({ zone }) => zone)].sort(([one], [other]) => one.localeCompare(other));
  const columns = ['shard', 'zone', 'state', 'keys', 'fill', 'used', 'of', 'objects', 'hit ratio', 'evicted', 'last victim idle'];
  const counts = zones.map(([zone, own]) => `${zone === '' ? 'no zone' : zone}: ${plural(own.length, 'shard')}`).join(', ');
  return html`<p id="shard-zones" data-live>${counts === '' ? 'There are no shards.' : `${counts}.`} Keys: the share of all keys that the shard owns. Hit ratio and evictions count since the shard’s start.</p>
${table({ id: 'shard-rows', name: 'Table of shards', columns, rows: zones.flatMap(([, own]) => own), show: shardRow, nothing: 'There are no shards.' })}`;
}

function shardRow({ hashKey, zone, health, address, port, weight, keyShare, isHeld, numbers }: ShardStatus): Html {
  const name = html`<th scope="row">${hashKey} <span class="quiet">${address}:${port}${weight === 1 ? '' : `, weight ${weight}`}</span></th>`;
  const own = html`${name}<td>${zone}</td><td>${state({ health, isHeld, numbers })}</td><td>${percent(keyShare, 2)}</td>`;
  if (numbers === undefined) return html`<tr>${own}<td colspan="7">no answer on its metrics port</td></tr>\n`;
  const { usedBytes, limitBytes, objects, totals, evicted, victimIdleSeconds } = numbers;
  const fill = usedBytes / limitBytes;
  return html`<tr>${own}<td>${bar(fill)} ${percent(fill)}</td><td>${bytes(usedBytes)}</td><td>${bytes(limitBytes)}</td><td>${count(objects)}</td><td>${ratio(totals.hits, totals.misses)}</td><td>${count(evicted)}</td><td>${evicted === 0 ? '–' : formatDuration(victimIdleSeconds)}</td></tr>\n`;
}

function bar(share: number): Html {
  const width = Math.round(100 * Math.min(1, Math.max(0, share)));
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="10"/><rect class="hits" width="${width}" height="10"/></svg>`;
}

function state({ health, isHeld, numbers }: Pick<ShardStatus, 'health' | 'isHeld' | 'numbers'>): Html {
  if (isHeld) return mark('bad', 'lost in Kubernetes, still kept');
  if (health === 'UNHEALTHY') return mark('bad', 'not serving');
  if (health === 'DRAINING') return mark('warn', 'draining');
  if (numbers !== undefined && !numbers.isServing) return mark('bad', 'out of service');
  return numbers === undefined ? mark('warn', 'healthy, no answer') : mark('good', 'healthy');
}

/** Colour alone never carries the meaning. */
function mark(kind: 'good' | 'warn' | 'bad', text: string): Html {
  const sign = { good: '●', warn: '▲', bad: '✕' }[kind];
  return html`<span class="${kind}"><span aria-hidden="true">${sign}</span> ${text}</span>`;
}

export function namespaceTable({ namespaces }: Status): Html {
  const all = namespaces.reduce((total, each) => total + each.bytes, 0);
  const show = ({ namespace, objects, bytes: own, share }: NamespaceStatus) =>
    html`<tr><th scope="row">${namespace}</th><td>${count(objects)}</td><td>${bytes(own)}</td><td>${bar(all === 0 ? 0 : own / all)} ${percent(all === 0 ? undefined : own / all)}</td><td>${percent(share, 0)}</td></tr>\n`;
  return html`<p>What each namespace has stored, by who wrote it; those with most, over all shards that answer.</p>
${table({ id: 'namespace-rows', name: 'Table of namespaces', columns: ['namespace', 'objects', 'bytes', 'of all that is stored', 'share by policy'], rows: namespaces, show, nothing: 'Nothing is stored.' })}`;
}

export function envoyTable({ envoys }: Status): Html {
  const show = ({ node, zone, peer, connectedAt, acknowledged, acknowledgedAt, isCurrent, refused }: EnvoyStatus) => {
    const has =
      refused !== undefined ? mark('bad', `rejected: ${refused}`) : isCurrent ? mark('good', 'up to date') : mark('warn', 'behind');
    return html`<tr><th scope="row">${node === '' ? '(no name yet)' : node} <span class="quiet">${peer}</span></th><td>${zone}</td><td>${has}</td><td><code>${acknowledged ?? '–'}</code></td><td>${time(acknowledgedAt)}</td><td>${time(connectedAt)}</td></tr>\n`;
  };
  const columns = ['Envoy', 'zone', 'state', 'acknowledged', 'at', 'connected since'];
  return html`<p>Those connected to this replica of eds; the others are with its other replicas.</p>
${table({ id: 'envoy-rows', name: 'Table of Envoys', columns, rows: envoys, show, nothing: 'No Envoy is connected to this replica.' })}`;
}

export function policyPart({ policy }: Status): Html {
  if (policy === undefined) return html`<p id="policy-state" data-live>ConfigMap kura-policy does not exist, or eds must not read it.</p>`;
  const { hash, changedAt, verdict, document } = policy;
  return html`<div id="policy-state" data-live><p>Document <code>${hash}</code>, last changed ${time(changedAt)}. ${verdictText(verdict)}</p></div>
<details><summary>The document</summary><pre id="policy-text" data-live tabindex="0">${document}</pre></details>`;
}

function verdictText(verdict: NonNullable<Status['policy']>['verdict']): Html {
  switch (verdict.kind) {
    case 'accepted':
      return html`${mark('good', 'in force')}, as authz reported at ${time(verdict.at)}.`;
    case 'rejected': {
      const last = verdict.inForce === undefined ? html`the previous one` : html`<code>${verdict.inForce}</code>`;
      return html`${mark('bad', 'rejected by authz')} at ${time(verdict.at)}: ${verdict.message}. The policy in force is still ${last}.`;
    }
    case 'unknown':
      return html`No Event about this document exists; Kubernetes deletes Events after an hour. See the metric <code>kura_authz_policy_info</code>.`;
    default:
      return verdict satisfies never;
  }
}
