import { duration, flag, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of authz, `KURA_AUTHZ_…`. */
export const settings = {
  listen: text('Where Envoy asks: `unix:` and a socket, or `host:port`.', 'unix:/run/kura/authz.sock'),
  metricsListen: listenAddress('Where `/metrics`, `/livez` and `/readyz` are.', '0.0.0.0:9903'),
  kubeconfig: optional(text("Kubeconfig of the cluster that is asked; without it the Pod's own ServiceAccount.")),
  namespace: text('Namespace of the ConfigMaps kura-policy and kura-origins.', 'kura-system'),
  podName: optional(
    text(
      "Name of authz's own Pod, in the same namespace. With it, `/ending` reports whether the Pod ends, for the hook that drains Envoy.",
    ),
  ),
  policyFile: optional(text('Where the last good policy is kept, so that it is in force after a restart without the Kubernetes API.')),
  originsFile: optional(
    text('File that keeps the last valid document of the ConfigMap kura-origins for a restart without the Kubernetes API.'),
  ),
  credentialFile: text(
    'File with the key that signs callers and terms for the shards. Of two keys, each on a line, the first one signs. With `off` nothing is signed.',
  ),
  audience: text('The audience that a token must have.', 'kura'),
  reviewDeadline: duration('How long one TokenReview may take; Envoy waits 1 s for the whole check.', { min: 50, max: 900 }, '800ms'),
  reviewsInFlight: integer(
    'How many TokenReviews may be under way; further ones, 1,000 at most, wait for a turn up to 0.3 s and 3/4 of the deadline.',
    { min: 1, max: 1_000 },
    '32',
  ),
  resultAge: duration(
    'How long authz uses the result of a review without asking again, while it does not watch the Pods.',
    { min: 0, max: 600_000 },
    '10s',
  ),
  watchedResultAge: duration(
    'The same while the watch on Pods is healthy, ± 20 %; the deletion of a Pod ends it at once.',
    { min: 0, max: 3_600_000 },
    '120s',
  ),
  withoutApi: duration(
    'How long authz accepts known tokens after the first refresh that the Kubernetes API does not answer; 0s = not at all.',
    { min: 0, max: 3_600_000 },
    '300s',
  ),
  allowUnbound: flag('Whether authz accepts tokens that are bound to no Pod.', 'false'),
  auditSample: integer(
    'One of so many allows is written to the audit log (every denial is); 0 = none.',
    { min: 0, max: 1_000_000 },
    '1000',
  ),
  cachedTokens: integer('How many tokens are remembered.', { min: 1, max: 10_000_000 }, '100000'),
  grant: duration('How long Envoy may reuse an allow without asking; 0s = not at all.', { min: 0, max: 60_000 }, '5s'),
  tracesEndpoint: optional(
    text('URL of an OpenTelemetry collector (OTLP over gRPC), such as `http://kura-tracing:4317`; without it authz sends no spans.'),
  ),
  logLevel: logLevel(),
};
