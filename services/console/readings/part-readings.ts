/** Pure: what the pages of eds, authz and Envoy say. */
import { readSamples, readVersion } from './samples.ts';

/** `/debug/assignment` of eds. */
export interface Assignment {
  readonly identity: 'pod' | 'node';
  readonly placement: 'global' | 'zone';
  readonly version: string | null;
  readonly isStale: boolean;
  readonly held: readonly string[];
  readonly refused: readonly string[];
}

/** An Envoy, as one eds knows it. */
interface EnvoyStream {
  readonly node: string;
  readonly zone: string;
  readonly peer: string;
  readonly openedAt: string;
  readonly isCurrent: boolean;
  readonly types: Readonly<Record<string, { readonly acknowledged: string | null; readonly refused: { readonly reason: string } | null }>>;
}

export interface EdsReading {
  readonly version: string | undefined;
  readonly assignment: Assignment;
  readonly streams: readonly EnvoyStream[];
}

/** `/debug/policy` of authz. */
export interface PolicyReport {
  readonly inForce?: { readonly hash: string; readonly mode: string; readonly since: string; readonly document: string };
  readonly problem?: string;
  readonly next?: { readonly hash: string; readonly problem?: string };
}

export interface AuthzReading {
  readonly version: string | undefined;
  readonly policy: PolicyReport;
  /** Counters since the start. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface EnvoyReading {
  /** Counters since the start. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Only these statistics: all of them have some 200 KiB. */
export const envoyMetricsPath = `/metrics?filter=${encodeURIComponent('^http\\.objects\\.downstream_rq_([1-5]xx|time)$|^server\\.uptime$')}`;
const envoyNames = new Set(['envoy_http_downstream_rq_xx', 'envoy_http_downstream_rq_time_bucket']);
const authzNames = new Set(['kura_authz_checks_total', 'kura_authz_shadow_differences_total']);
/** The decisions of authz that a tenant or an operator has to know. */
export const refusals = ['forbidden', 'would-deny', 'too-many-requests', 'too-large', 'unauthenticated', 'unavailable'] as const;
const counted: ReadonlySet<string> = new Set(refusals);

export function readEds(pages: { metrics: string; assignment: string; streams: string }): EdsReading {
  return {
    version: readVersion(pages.metrics),
    assignment: JSON.parse(pages.assignment) as Assignment,
    streams: JSON.parse(pages.streams) as EnvoyStream[],
  };
}

/** The counts have names such as `refused forbidden vision`, and `shadow deny vision` for the next policy. */
export function readAuthz(pages: { metrics: string; policy: string }): AuthzReading {
  const counts: Record<string, number> = {};
  for (const { name, labels, value } of readSamples(pages.metrics, authzNames)) {
    const { decision = '', next = '', namespace = '' } = labels;
    const isShadow = name === 'kura_authz_shadow_differences_total';
    if (!isShadow && !counted.has(decision)) continue;
    const key = isShadow ? `shadow ${next} ${namespace}` : `refused ${decision} ${namespace}`;
    counts[key] = (counts[key] ?? 0) + value;
  }
  return { version: readVersion(pages.metrics), policy: JSON.parse(pages.policy) as PolicyReport, counts };
}

/** `responses`, `errors` (5xx), and `within <ms>` for each bound of the histogram, the smaller bounds included. */
export function readEnvoy(text: string): EnvoyReading {
  const counts: Record<string, number> = { responses: 0, errors: 0 };
  const add = (key: string, value: number): void => {
    counts[key] = (counts[key] ?? 0) + value;
  };
  for (const { name, labels, value } of readSamples(text, envoyNames)) {
    if (labels.envoy_http_conn_manager_prefix !== 'objects') continue;
    if (name === 'envoy_http_downstream_rq_time_bucket') add(`within ${labels.le}`, value);
    else {
      add('responses', value);
      if (labels.envoy_response_code_class === '5') add('errors', value);
    }
  }
  return { counts };
}
