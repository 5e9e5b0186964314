/** The fake Kubernetes API as a process. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:https';
import path from 'node:path';
import { stringify } from 'yaml';
import { readSettings } from '../shared/environment.ts';
import { runService } from '../shared/lifecycle.ts';
import { listen } from '../shared/listen.ts';
import { createLogger } from '../shared/log.ts';
import { replaceFile } from '../shared/write-file.ts';
import { servingCertificate } from './certificates.ts';
import { ClusterObjects } from './cluster-objects.ts';
import { settings } from './config.ts';
import { readOrMake } from './files.ts';
import { KubernetesApi } from './http.ts';
import { readEntries, writeEntry } from './object-files.ts';
import { SigningKey } from './signing-key.ts';
import { ObjectStore } from './store.ts';
import { Tokens } from './tokens.ts';

/** Longer than any client of kura keeps an idle connection. The server therefore never closes a connection while a request is in flight. */
const keepAliveMs = 90_000;
const requestTimeoutMs = 30_000;
/** Each watch has a separate connection. All other requests share these. */
const connectionsBesideWatches = 1_000;

await runService('kubernetes', async () => {
  const {
    directory,
    listen: address,
    shortestToken,
    bookmark,
    watches,
    logLevel,
  } = readSettings('KURA_KUBERNETES_', settings, process.env);
  const log = createLogger({ service: 'kubernetes', level: logLevel });
  await mkdir(directory, { recursive: true, mode: 0o700 });

  const objects = path.join(directory, 'objects');
  // A process makes far less than one change per millisecond, so the clock is above every version of an earlier process.
  const store = new ObjectStore({ firstVersion: Date.now(), entries: readEntries(objects), write: (entry) => writeEntry(objects, entry) });
  const cluster = new ClusterObjects({ store, now: () => new Date(), newUid: randomUUID });
  const { certificate, key, authority } = await servingCertificate(directory);
  const adminToken = await readOrMake(path.join(directory, 'admin.token'), () => randomBytes(24).toString('hex'));
  const signingKey = await SigningKey.open(path.join(directory, 'sa.key'));
  const tokens = new Tokens({ store, key: signingKey, adminToken, minSeconds: shortestToken / 1000 });

  const api = new KubernetesApi({ store, cluster, tokens, bookmarkMs: bookmark, maxWatches: watches, log });
  const server = createServer({ cert: certificate, key, keepAliveTimeout: keepAliveMs, requestTimeout: requestTimeoutMs }, api.handle);
  server.maxConnections = watches + connectionsBesideWatches;
  const listening = await listen(server, address);
  const kubeconfig = kubeconfigOf({ server: `https://${listening.address}`, authority, token: adminToken });
  await replaceFile(path.join(directory, 'admin.kubeconfig'), kubeconfig, { mode: 0o600 });
  return {
    log,
    running: {
      listening: { https: listening.address },
      close: () => listening.close(),
    },
  };
});

function kubeconfigOf({ server, authority, token }: { server: string; authority: string; token: string }): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'kura-local', cluster: { server, 'certificate-authority-data': Buffer.from(authority).toString('base64') } }],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name: 'kura-local', context: { cluster: 'kura-local', user: 'admin' } }],
    'current-context': 'kura-local',
  });
}
