/** The metrics of authz: checks, reviews, and identities served from the cache. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { DocumentSource } from '../shared/document-source.ts';
import { type Decide, type Decision, outcomeOf, type Question } from './decision.ts';
import type { Review } from './identity/token-review.ts';
import type { PolicySource } from './policy/source.ts';

interface GaugeSources {
  readonly reviewsInFlight: () => number;
  readonly rememberedTokens: () => number;
  readonly isPodWatchHealthy: () => boolean;
  readonly policy: Pick<PolicySource, 'hash' | 'accepted' | 'rejected' | 'isWatching'>;
  readonly origins: Pick<DocumentSource<unknown>, 'hash' | 'isWatching'>;
}

/** Namespaces that are counted by name. All others are one sum. Each one has up to 12 series (docs/operate.md, Dashboards and scraping). */
const maxNamespaces = 100;

/** From a cached response to the deadline of a review. */
const buckets = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

export class Metrics {
  readonly #checks: Counter;
  readonly #checkSeconds: Histogram;
  readonly #reviews: Counter;
  readonly #reviewSeconds: Histogram;
  readonly #localRefusals: Counter;
  readonly #cacheHits: Counter;
  readonly #servedDuringOutage: Counter;
  readonly #shadowDifferences: Counter;
  /** The namespaces with series under their own name. A counter must keep its label, so the first ones stay named until the next start. */
  readonly #named = new Set<string>();
  /** Since the last scrape. */
  #oldestServedMs = 0;

  constructor(registry: Registry, sources: GaugeSources) {
    const counter = (name: string, help: string, labelNames: string[] = []): Counter =>
      new Counter({ name, help, labelNames, registers: [registry] });
    const histogram = (name: string, help: string): Histogram => new Histogram({ name, help, buckets, registers: [registry] });
    this.#checks = counter('kura_authz_checks_total', 'Checks by decision, reason and namespace of the workload.', [
      'decision',
      'reason',
      'namespace',
    ]);
    this.#checkSeconds = histogram('kura_authz_check_duration_seconds', 'Duration of a check.');
    this.#reviews = counter('kura_authz_reviews_total', 'TokenReviews by result.', ['result']);
    this.#reviewSeconds = histogram('kura_authz_review_duration_seconds', 'Duration of a TokenReview.');
    this.#localRefusals = counter('kura_authz_local_refusals_total', 'Tokens refused without asking the API, by reason.', ['reason']);
    this.#cacheHits = counter('kura_authz_cache_hits_total', 'Identities served from the cache.');
    this.#servedDuringOutage = counter(
      'kura_authz_served_without_api_total',
      'Identities served although their result has expired, because the Kubernetes API does not respond.',
    );
    this.#shadowDifferences = counter('kura_authz_shadow_differences_total', 'Checks that the next policy would decide differently.', [
      'next',
      'namespace',
    ]);
    registerGauges(registry, sources, () => this.#takeOldestServedSeconds());
  }

  /** Returns the same decisions, counted and timed. */
  countChecks(decide: Decide): Decide {
    return async (question) => {
      const end = this.#checkSeconds.startTimer();
      const decision = await decide(question);
      end();
      const namespace = this.#nameOf(decision);
      this.#checks.inc({
        // Dry-run mode allows a request that the policy denies. It is counted separately.
        decision: outcomeOf(decision),
        reason: reasonOf(decision, question),
        namespace,
      });
      if ('difference' in decision && decision.difference !== undefined)
        this.#shadowDifferences.inc({ next: decision.difference.next, namespace });
      return decision;
    };
  }

  /** The same review, counted and timed. */
  countReviews(review: Review): Review {
    return async (token, options) => {
      const end = this.#reviewSeconds.startTimer();
      const answer = await review(token, options);
      end();
      this.#reviews.inc({ result: answer.kind });
      return answer;
    };
  }

  countServed({ ageMs, servedDuringOutage }: { ageMs: number; servedDuringOutage: boolean }): void {
    this.#cacheHits.inc();
    if (servedDuringOutage) this.#servedDuringOutage.inc();
    this.#oldestServedMs = Math.max(this.#oldestServedMs, ageMs);
  }

  countLocalRefusal(reason: string): void {
    this.#localRefusals.inc({ reason });
  }

  /** No namespace has parentheses in its name. */
  #nameOf(decision: Decision): string {
    if (!('identity' in decision)) return '(unknown)';
    const { namespace } = decision.identity;
    if (this.#named.has(namespace)) return namespace;
    if (this.#named.size === maxNamespaces) return '(others)';
    this.#named.add(namespace);
    return namespace;
  }

  #takeOldestServedSeconds(): number {
    const seconds = this.#oldestServedMs / 1000;
    this.#oldestServedMs = 0;
    return seconds;
  }
}

function registerGauges(registry: Registry, sources: GaugeSources, oldestServedSeconds: () => number): void {
  const { reviewsInFlight, rememberedTokens, isPodWatchHealthy, policy, origins } = sources;
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge('kura_authz_reviews_in_flight', 'TokenReviews in progress.', reviewsInFlight);
  gauge('kura_authz_remembered_tokens', 'Cached results of TokenReviews.', rememberedTokens);
  gauge('kura_authz_pod_watch_healthy', '1 while the watch on Pods is open.', () => Number(isPodWatchHealthy()));
  gauge(
    'kura_authz_oldest_served_result_seconds',
    'Age of the oldest TokenReview result served since the last scrape.',
    oldestServedSeconds,
  );
  gauge('kura_authz_policy_watch_healthy', '1 while the watches on the policy and on namespaces are open.', () =>
    Number(policy.isWatching),
  );
  gauge('kura_authz_policy_generation', 'Policies accepted since the start.', () => policy.accepted);
  gauge('kura_authz_policy_rejected', 'Policies rejected since the start.', () => policy.rejected);
  gauge('kura_authz_origins_watch_healthy', '1 while the watch on the origins is open.', () => Number(origins.isWatching));
  const info = (name: string, help: string, document: { readonly hash: string | undefined }): Gauge =>
    new Gauge({
      name,
      help,
      labelNames: ['hash'],
      registers,
      collect() {
        this.reset();
        if (document.hash !== undefined) this.set({ hash: document.hash }, 1);
      },
    });
  info('kura_authz_policy_info', 'Hash of the policy in force.', policy);
  info('kura_authz_origins_info', 'Hash of the origins document in force; absent without one.', origins);
}

/** A fixed set of words, because each value creates a time series. */
function reasonOf(decision: Decision, { token }: Question): string {
  switch (decision.kind) {
    case 'allow':
    case 'folder':
      return decision.cached ? 'remembered' : 'reviewed';
    case 'unauthenticated':
      return token === undefined ? 'no-token' : 'bad-token';
    case 'forbidden':
      return decision.rule === 'default' ? 'no-rule' : 'rule';
    case 'unavailable':
      return decision.isOverload ? 'overload' : 'kubernetes-api';
    case 'no-policy':
      return 'policy';
    default:
      return 'request';
  }
}
