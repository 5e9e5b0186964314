/** The stand-in Kubernetes API as a process. */
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
import { isExpired } from './event-expiry.ts';
import { readOrMake } from './files.ts';
import { createApi } from './http.ts';
import { openJournal } from './journal.ts';
import { resources } from './resources.ts';
import { openSigningKey } from './signing-key.ts';
import { ObjectStore } from './store.ts';
import { createTokens } from './tokens.ts';

/** Longer than any client of kura keeps an idle connection, so that none is closed under a request. */
const keepAliveMs = 90_000;
/** A request that is not whole by now is broken off. */
const requestLimitMs = 30_000;
/** Watches have connections of their own; the rest is shared. */
const connectionsBesideWatches = 1_000;
const sweepMs = 60_000;

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

  const journal = openJournal(path.join(directory, 'objects.jsonl'), () => ({ version: store.version, entries: store.entries() }));
  const store = new ObjectStore({ restored: journal.restored, write: journal.write });
  const cluster = new ClusterObjects({ store, now: () => new Date(), newUid: randomUUID, random: Math.random });
  const { certificate, key, authority } = await servingCertificate(directory);
  const adminToken = await readOrMake(path.join(directory, 'admin.token'), () => randomBytes(24).toString('hex'));
  const tokens = createTokens({
    store,
    key: await openSigningKey(path.join(directory, 'sa.key')),
    adminToken,
    shortestSeconds: shortestToken / 1000,
  });

  const api = createApi({ store, cluster, tokens, bookmarkMs: bookmark, watches, log });
  const server = createServer({ cert: certificate, key, keepAliveTimeout: keepAliveMs, requestTimeout: requestLimitMs }, api);
  server.maxConnections = watches + connectionsBesideWatches;
  const listening = await listen(server, address);
  const sweeping = setInterval(() => removeOldEvents(store, cluster), sweepMs);
  const kubeconfig = kubeconfigOf({ server: `https://${listening.address}`, authority, token: adminToken });
  await replaceFile(path.join(directory, 'admin.kubeconfig'), kubeconfig, { mode: 0o600 });
  return {
    log,
    running: {
      listening: { https: listening.address },
      close: async () => {
        clearInterval(sweeping);
        await listening.close();
        journal.close();
      },
    },
  };
});

function removeOldEvents(store: ObjectStore, cluster: ClusterObjects): void {
  const events = resources.find(({ plural, group }) => plural === 'events' && group === '') as (typeof resources)[number];
  for (const event of store.list(events)) {
    if (isExpired(event, new Date())) cluster.delete(events, event, { graceSeconds: 0, dryRun: false });
  }
}

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
