import { duration, listenAddress, logLevel, optional, text } from '../shared/environment.ts';

/** Settings of the origin service, `KURA_ORIGIN_…`. */
export const settings = {
  listen: listenAddress('Where shards fetch objects.', '0.0.0.0:18100'),
  metricsListen: listenAddress('Where `/metrics`, `/livez` and `/readyz` are.', '0.0.0.0:9905'),
  kubeconfig: optional(text("Kubeconfig of the cluster; without it the Pod's own ServiceAccount.")),
  drain: duration('How long requests of shards may take when the service ends.', { min: 0, max: 600_000 }, '30s'),
  namespace: text('Namespace of the ConfigMap kura-origins.', 'kura-system'),
  originsFile: optional(
    text('File that keeps the last valid document, so that it is in force after a restart without the Kubernetes API.'),
  ),
  credentialFile: text('File with the keys that verify the terms of a request, one or two, each on a line. With `off` all terms count.'),
  secretsDirectory: text('Folder with a folder of credentials for each origin that needs them, named as the origin.', '/etc/kura/origins'),
  logLevel: logLevel(),
};
