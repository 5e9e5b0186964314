import { choice, duration, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of eds, `KURA_EDS_…`. */
export const settings = {
  listen: text('Where Envoys connect, `host:port`.', '0.0.0.0:18000'),
  tlsDirectory: optional(
    text('Folder of `tls.crt`, `tls.key` and `ca.crt`: only Envoys with a certificate of that CA may connect. Without it, plain text.'),
  ),
  metricsListen: listenAddress('Where `/metrics`, `/livez`, `/readyz` and `/debug/streams` are.', '0.0.0.0:9904'),
  kubeconfig: optional(text("Kubeconfig of the cluster that is watched; without it the Pod's own ServiceAccount.")),
  namespace: text('Namespace of the cache Service.', 'kura-system'),
  service: text('The cache Service; also the name of the assignment.', 'kura-cache'),
  podSelector: optional(text('Label selector of the cache Pods, whose metadata is watched; without it all Pods of the namespace.')),
  identity: choice("What a shard's hash_key begins with: `pod` (StatefulSet) or `node` (DaemonSet).", ['pod', 'node'], 'pod'),
  placement: choice(
    '`global`: every Envoy spreads keys over all shards. `zone`: over those of its own zone, the others when these fail; each zone then holds its own copies.',
    ['global', 'zone'],
    'global',
  ),
  debounce: duration('How long a change waits for others, so that a burst is one push.', { min: 0, max: 10_000 }, '100ms'),
  debounceLimit: duration('The longest that a change waits while others keep coming.', { min: 0, max: 60_000 }, '500ms'),
  unhealthy: duration('How long a shard that does not serve stays listed as UNHEALTHY.', { min: 0, max: 3_600_000 }, '30s'),
  collapsePercent: integer(
    'When more than this percentage of the shards vanishes at once, they are kept for a while; 100 = never. Off below four shards.',
    { min: 1, max: 100 },
    '50',
  ),
  collapseHold: duration('How long shards that vanished in a collapse are kept.', { min: 0, max: 3_600_000 }, '30s'),
  maxStreams: integer('Streams that may be open; one more is refused with RESOURCE_EXHAUSTED.', { min: 1, max: 100_000 }, '10000'),
  logLevel: logLevel(),
};
