import { duration, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of the console, `KURA_CONSOLE_…`. */
export const settings = {
  listen: listenAddress('Address of the status page.', '0.0.0.0:18200'),
  datasetsListen: listenAddress('Address of `/datasets/` for Envoy.', '0.0.0.0:18201'),
  metricsListen: listenAddress('Address of `/metrics`, `/livez` and `/readyz`.', '0.0.0.0:9906'),
  kubeconfig: optional(text('Kubeconfig of the cluster. Without it, the console uses the ServiceAccount of its Pod.')),
  namespace: text('Namespace of kura.', 'kura-system'),
  service: text('Name of the cache Service.', 'kura-cache'),
  watchedInterval: duration('Interval for reading the metrics of all parts while somebody looks.', { min: 100, max: 3_600_000 }, '5s'),
  idleInterval: duration('The same while nobody looks.', { min: 100, max: 3_600_000 }, '1m'),
  credentialFile: text(
    'File with the keys that verify requests of Envoy and sign those to shards, one or two, each on a line. With `off` all terms count.',
  ),
  stateDirectory: optional(
    text('Folder for the numbers of the last 24 hours, which a restart loses without it, and for removals that shards have not confirmed.'),
  ),
  logLevel: logLevel(),
};
