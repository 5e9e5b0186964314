/** Tracks outages of the Kubernetes API by the results of reviews. Logs the start and the end of each outage once. */
import type { Logger } from '../shared/log.ts';
import type { Review } from './identity/token-review.ts';

export class ApiOutage {
  readonly #log: Logger;
  #isOpen = false;

  constructor({ log }: { log: Logger }) {
    this.#log = log;
  }

  /** An identity was served although its result has expired, because the API does not respond. */
  servedDuringOutage(): void {
    if (!this.#isOpen)
      this.#log.warn('the Kubernetes API does not respond: known tokens stay valid for a limited time, unknown tokens get 503');
    this.#isOpen = true;
  }

  /** The same review. A response of the API ends the outage. */
  watchReviews(review: Review): Review {
    return async (token, options) => {
      const answer = await review(token, options);
      if (this.#isOpen && answer.kind !== 'unavailable') {
        this.#isOpen = false;
        this.#log.info('the Kubernetes API responds again');
      }
      return answer;
    };
  }
}
