import { choice, duration, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of eds, `KURA_EDS_…`. */
export const settings = {
  listen: text('Address for the connections of Envoys, `host:port`.', '0.0.0.0:18000'),
  tlsDirectory: optional(
    text('Folder with `tls.crt`, `tls.key` and `ca.crt`. Envoys then need a certificate of that CA. Without a folder, eds uses no TLS.'),
  ),
  metricsListen: listenAddress('Address of `/metrics`, `/livez`, `/readyz`, `/debug/streams` and `/debug/assignment`.', '0.0.0.0:9904'),
  kubeconfig: optional(text('Kubeconfig of the cluster. Without it, eds uses the ServiceAccount of its Pod.')),
  namespace: text('Namespace of the cache Service.', 'kura-system'),
  service: text('Name of the cache Service, and of the assignment.', 'kura-cache'),
  podSelector: optional(text('Label selector of the cache Pods. Without it, eds watches the metadata of all Pods in the namespace.')),
  identity: choice("First part of a shard's hash_key: `pod` (StatefulSet) or `node` (DaemonSet).", ['pod', 'node'], 'pod'),
  placement: choice(
    '`global`: Envoys spread keys over all shards. `zone`: Envoys prefer the shards of their own zone, and each zone holds its own copies.',
    ['global', 'zone'],
    'global',
  ),
  debounce: duration(
    'Time without further changes after which eds sends an update, so that a burst becomes one update.',
    { min: 0, max: 10_000 },
    '100ms',
  ),
  debounceLimit: duration('Maximum delay of a change while further changes arrive.', { min: 0, max: 60_000 }, '500ms'),
  unhealthy: duration('Time for which a shard that does not serve stays listed.', { min: 0, max: 3_600_000 }, '30s'),
  // Node leases end up to 15 s apart, when all kubelets lose the API at the same moment.
  lossDelay: duration(
    'Time for which a shard that lost its health stays listed as it was, then as UNHEALTHY. Losses within this time count together.',
    { min: 0, max: 600_000 },
    '15s',
  ),
  collapsePercent: integer(
    'When more than this percentage of the shards vanishes or loses its health together, eds keeps them as they were. 100: never.',
    { min: 1, max: 100 },
    '50',
  ),
  // Long enough for a person to react to the alert. It costs little: Envoy's own checks remove the dead shards.
  collapseHold: duration(
    'Time for which eds keeps shards that vanished in a collapse, and holds back an empty first list.',
    { min: 0, max: 86_400_000 },
    '10m',
  ),
  returnWait: duration(
    'After a time in which no shard served: how long the first ones wait until half of the listed shards serve.',
    { min: 0, max: 3_600_000 },
    '1m',
  ),
  stateFile: optional(text('File for the last assignment. After a restart, eds serves it until the Kubernetes API answers.')),
  apiSilence: duration(
    'Time without data from the Kubernetes API after which the gRPC health is NOT_SERVING, so that Envoys use another replica.',
    { min: 1_000, max: 86_400_000 },
    '3m',
  ),
  maxStreams: integer(
    'Maximum number of open streams. eds rejects further streams with RESOURCE_EXHAUSTED.',
    { min: 1, max: 100_000 },
    '10000',
  ),
  maxStreamsPerPeer: integer(
    'Maximum number of open streams from one address. An Envoy opens one; behind address translation many Envoys can share an address.',
    { min: 1, max: 100_000 },
    '100',
  ),
  logLevel: logLevel(),
};
