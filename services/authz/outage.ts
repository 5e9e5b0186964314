/** Whether the Kubernetes API is away, as the reviews show it: logs the start and the end of an outage, once each. */
import type { Logger } from '../shared/log.ts';
import type { Review } from './identity/token-review.ts';

export class ApiOutage {
  readonly #log: Logger;
  #isOpen = false;

  constructor({ log }: { log: Logger }) {
    this.#log = log;
  }

  /** An identity was served past its time because the API does not answer. */
  servedDuringOutage(): void {
    if (!this.#isOpen) this.#log.warn('the Kubernetes API does not answer: serving known tokens for a bounded time, unknown ones get 503');
    this.#isOpen = true;
  }

  /** The same review; an answer of the API ends the outage. */
  watchReviews(review: Review): Review {
    return async (token, options) => {
      const answer = await review(token, options);
      if (this.#isOpen && answer.kind !== 'unavailable') {
        this.#isOpen = false;
        this.#log.info('the Kubernetes API answers again');
      }
      return answer;
    };
  }
}
