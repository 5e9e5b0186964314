import { duration, integer, listenAddress, logLevel, text } from '../shared/environment.ts';

/** Settings of the fake Kubernetes API, `KURA_KUBERNETES_…`. */
export const settings = {
  listen: listenAddress('Address of the API.', '127.0.0.1:6443'),
  directory: text('Folder of the certificate, the keys, the objects and admin.kubeconfig.'),
  shortestToken: duration(
    'The shortest lifetime that a TokenRequest may ask for; the real API has 10m.',
    { min: 1_000, max: 3_600_000 },
    '10m',
  ),
  bookmark: duration('Time between two bookmarks of a watch.', { min: 10, max: 600_000 }, '60s'),
  watches: integer('Maximum number of open watches; the API rejects one more with 429.', { min: 1, max: 100_000 }, '1000'),
  logLevel: logLevel(),
};
