import { choice, duration, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of eds, `KURA_EDS_…`. */
export const settings = {
  listen: text('Where Envoys connect, `host:port`.', '0.0.0.0:18000'),
  metricsListen: listenAddress('Where `/metrics`, `/livez` and `/readyz` are.', '0.0.0.0:9904'),
  kubeconfig: optional(text("Kubeconfig of the cluster that is watched; without it the Pod's own ServiceAccount.")),
  namespace: text('Namespace of the cache Service.', 'kura-system'),
  service: text('The cache Service; also the name of the assignment.', 'kura-cache'),
  identity: choice("What a shard's hash_key begins with: `pod` (StatefulSet) or `node` (DaemonSet).", ['pod', 'node'], 'pod'),
  debounce: duration('How long a change waits for others, so that a burst is one push.', { min: 0, max: 10_000 }, '100ms'),
  debounceLimit: duration('The longest that a change waits while others keep coming.', { min: 0, max: 60_000 }, '500ms'),
  logLevel: logLevel(),
};
