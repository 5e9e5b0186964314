import { duration, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of authz, `KURA_AUTHZ_…`. */
export const settings = {
  listen: text('Where Envoy asks: `unix:` and a socket, or `host:port`.', 'unix:/run/kura/authz.sock'),
  metricsListen: listenAddress('Where `/metrics`, `/livez` and `/readyz` are.', '0.0.0.0:9903'),
  kubeconfig: optional(text("Kubeconfig of the cluster that is asked; without it the Pod's own ServiceAccount.")),
  audience: text('The audience that a token must have.', 'kura'),
  reviewDeadline: duration('How long one TokenReview may take; Envoy waits 1 s for the whole check.', { min: 50, max: 900 }, '800ms'),
  reviewsInFlight: integer('How many TokenReviews may be under way; a further one is answered with 503.', { min: 1, max: 1_000 }, '32'),
  resultAge: duration('How long the result of a review is good without asking again.', { min: 0, max: 600_000 }, '10s'),
  withoutApi: duration(
    'How long known tokens go on when the Kubernetes API does not answer; 0s = not at all.',
    { min: 0, max: 3_600_000 },
    '300s',
  ),
  cachedTokens: integer('How many tokens are remembered.', { min: 1, max: 10_000_000 }, '100000'),
  logLevel: logLevel(),
};
