import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Decide } from './decision.ts';
import type { ReviewAnswer } from './token-review.ts';

/** From a cached answer to the deadline of a review. */
const buckets = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** Counts and times decisions and reviews. */
export function createMetrics({ registry, reviewsInFlight }: { registry: Registry; reviewsInFlight: () => number }) {
  const registers = [registry];
  const checks = new Counter({ name: 'kura_authz_checks_total', help: 'Checks by decision.', labelNames: ['decision'], registers });
  const checkSeconds = new Histogram({ name: 'kura_authz_check_duration_seconds', help: 'Time of a check.', buckets, registers });
  const reviews = new Counter({ name: 'kura_authz_reviews_total', help: 'TokenReviews by result.', labelNames: ['result'], registers });
  const reviewSeconds = new Histogram({ name: 'kura_authz_review_duration_seconds', help: 'Time of a TokenReview.', buckets, registers });
  new Gauge({
    name: 'kura_authz_reviews_in_flight',
    help: 'TokenReviews under way.',
    registers,
    collect() {
      this.set(reviewsInFlight());
    },
  });
  return {
    countingChecks:
      (decide: Decide): Decide =>
      async (question) => {
        const end = checkSeconds.startTimer();
        const decision = await decide(question);
        end();
        checks.inc({ decision: decision.kind });
        return decision;
      },
    countingReviews:
      (review: (token: string) => Promise<ReviewAnswer>) =>
      async (token: string): Promise<ReviewAnswer> => {
        const end = reviewSeconds.startTimer();
        const answer = await review(token);
        end();
        reviews.inc({ result: answer.kind });
        return answer;
      },
  };
}
