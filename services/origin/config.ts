import { bytes, duration, integer, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of the origin service, `KURA_ORIGIN_…`. */
export const settings = {
  listen: listenAddress('Where shards fetch objects.', '0.0.0.0:18100'),
  prefetchListen: listenAddress('Where Envoy sends requests for prefetch jobs.', '0.0.0.0:18101'),
  metricsListen: listenAddress('Where `/metrics`, `/livez` and `/readyz` are.', '0.0.0.0:9905'),
  kubeconfig: optional(text("Kubeconfig of the cluster; without it the Pod's own ServiceAccount.")),
  drain: duration('How long requests of shards may take when the service ends.', { min: 0, max: 600_000 }, '30s'),
  namespace: text('Namespace of the ConfigMap kura-origins.', 'kura-system'),
  originsFile: optional(
    text('File that keeps the last valid document, so that it is in force after a restart without the Kubernetes API.'),
  ),
  credentialFile: text('File with the keys that verify the terms of a request, one or two, each on a line. With `off` all terms count.'),
  secretsDirectory: text('Folder with a folder of credentials for each origin that needs them, named as the origin.', '/etc/kura/origins'),
  fillUrl: text('Base URL of the listener `fill` of Envoy. Prefetch jobs reach the shards through it.', 'http://kura-fill'),
  maxFills: integer('Fills of prefetch jobs at a time.', { min: 1, max: 10_000 }, '64'),
  maxFillsPerJob: integer('Fills of one prefetch job at a time.', { min: 1, max: 1_000 }, '16'),
  maxJobs: integer('Prefetch jobs that run at a time.', { min: 1, max: 1_000 }, '16'),
  maxJobsPerNamespace: integer('Prefetch jobs that run at a time for one namespace.', { min: 1, max: 1_000 }, '4'),
  maxKeysBytes: bytes(
    'Memory for the keys of one prefetch job. Further keys of its list are dropped.',
    { min: 1_024, max: 2 ** 30 },
    '8Mi',
  ),
  jobRetention: duration('How long the result of a prefetch job can be read after its end.', { min: 1_000, max: 7 * 24 * 3_600_000 }, '1h'),
  logLevel: logLevel(),
};
