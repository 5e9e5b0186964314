import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Logger } from '../shared/log.ts';
import type { Decide, Decision, Question } from './decision.ts';
import type { IdentityEvents } from './identity/resolver.ts';
import type { Review } from './identity/token-review.ts';
import type { PolicySource } from './policy/source.ts';

interface MetricsOptions {
  readonly registry: Registry;
  readonly log: Logger;
  readonly reviewsInFlight: () => number;
  readonly rememberedTokens: () => number;
  readonly isPodWatchHealthy: () => boolean;
  readonly policy: Pick<PolicySource, 'hash' | 'accepted' | 'rejected' | 'isWatching'>;
}

/** From a cached answer to the deadline of a review. */
const buckets = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** Counts and times decisions, reviews and what is served from memory. */
export function createMetrics({ registry, log, reviewsInFlight, rememberedTokens, isPodWatchHealthy, policy }: MetricsOptions) {
  const registers = [registry];
  const checks = new Counter({
    name: 'kura_authz_checks_total',
    help: 'Checks by decision and reason.',
    labelNames: ['decision', 'reason'],
    registers,
  });
  const checkSeconds = new Histogram({ name: 'kura_authz_check_duration_seconds', help: 'Time of a check.', buckets, registers });
  const reviews = new Counter({ name: 'kura_authz_reviews_total', help: 'TokenReviews by result.', labelNames: ['result'], registers });
  const reviewSeconds = new Histogram({ name: 'kura_authz_review_duration_seconds', help: 'Time of a TokenReview.', buckets, registers });
  const refusals = new Counter({
    name: 'kura_authz_local_refusals_total',
    help: 'Tokens refused without asking the API, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const hits = new Counter({ name: 'kura_authz_cache_hits_total', help: 'Identities served from memory.', registers });
  const without = new Counter({
    name: 'kura_authz_served_without_api_total',
    help: 'Identities served past their time because the API does not answer.',
    registers,
  });
  const shadow = new Counter({
    name: 'kura_authz_shadow_differences_total',
    help: 'Checks that the next policy would decide otherwise.',
    labelNames: ['next'],
    registers,
  });
  let oldestMs = 0;
  let isApiAway = false;
  const gauge = (name: string, help: string, read: () => number): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  gauge('kura_authz_reviews_in_flight', 'TokenReviews under way.', reviewsInFlight);
  gauge('kura_authz_remembered_tokens', 'Results of reviews in memory.', rememberedTokens);
  gauge('kura_authz_pod_watch_healthy', '1 while the watch on Pods is open.', () => Number(isPodWatchHealthy()));
  gauge('kura_authz_oldest_served_result_seconds', 'Age of the oldest result served since the last scrape.', () => {
    const seconds = oldestMs / 1000;
    oldestMs = 0;
    return seconds;
  });
  gauge('kura_authz_policy_watch_healthy', '1 while the watch on the policy is open.', () => Number(policy.isWatching));
  gauge('kura_authz_policy_generation', 'Policies taken since the start.', () => policy.accepted);
  gauge('kura_authz_policy_rejected', 'Policies rejected since the start.', () => policy.rejected);
  new Gauge({
    name: 'kura_authz_policy_info',
    help: 'Hash of the policy in force.',
    labelNames: ['hash'],
    registers,
    collect() {
      this.reset();
      if (policy.hash !== undefined) this.set({ hash: policy.hash }, 1);
    },
  });
  const events: IdentityEvents = {
    served: ({ ageMs, withoutApi }) => {
      hits.inc();
      if (withoutApi) {
        without.inc();
        // Once per outage and not per request.
        if (!isApiAway) log.warn('the Kubernetes API does not answer: known tokens go on for a bounded time, unknown ones get 503');
        isApiAway = true;
      }
      oldestMs = Math.max(oldestMs, ageMs);
    },
    refusedHere: (reason) => refusals.inc({ reason }),
  };
  return {
    events,
    watchingChecks:
      (decide: Decide, audit: (question: Question, decision: Decision) => void): Decide =>
      async (question) => {
        const end = checkSeconds.startTimer();
        const decision = await decide(question);
        end();
        // In a dry run what would be denied is let in and counted apart.
        checks.inc({
          decision: decision.kind === 'allow' && decision.wouldDeny ? 'would-deny' : decision.kind,
          reason: reasonOf(decision, question),
        });
        if ('difference' in decision && decision.difference !== undefined) shadow.inc({ next: decision.difference.next });
        audit(question, decision);
        return decision;
      },
    countingReviews:
      (review: Review): Review =>
      async (token, options) => {
        const end = reviewSeconds.startTimer();
        const answer = await review(token, options);
        end();
        reviews.inc({ result: answer.kind });
        if (isApiAway && answer.kind !== 'unavailable') {
          isApiAway = false;
          log.info('the Kubernetes API answers again');
        }
        return answer;
      },
  };
}

/** Few words, since each is a series. */
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
      return 'kubernetes-api';
    case 'no-policy':
      return 'policy';
    default:
      return 'request';
  }
}
