/** The stand-in Kubernetes API as a process. */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import path from 'node:path';
import { stringify } from 'yaml';
import { readSettings } from '../../shared/environment.ts';
import { runService } from '../../shared/lifecycle.ts';
import { listen } from '../../shared/listen.ts';
import { createLogger } from '../../shared/log.ts';
import { servingCertificate } from './certificates.ts';
import { settings } from './config.ts';
import { createApi } from './http.ts';
import { openPersistence, type Persistence } from './persistence.ts';
import { openServiceAccountTokens } from './service-account-tokens.ts';
import { ObjectStore } from './store.ts';

await runService(async () => {
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

  const persistence: Persistence = openPersistence(path.join(directory, 'objects.json'), () => store.snapshot());
  const store = new ObjectStore({
    snapshot: persistence.restored,
    now: () => new Date(),
    newUid: randomUUID,
    onChange: persistence.touch,
  });
  const { certificate, key, authority } = await servingCertificate(directory);
  const tokens = await openServiceAccountTokens({ directory, store, shortestSeconds: shortestToken / 1000 });
  const adminToken = await administratorToken(path.join(directory, 'admin.token'));
  const server = createServer({ cert: certificate, key }, createApi({ store, tokens, adminToken, bookmarkMs: bookmark, watches, log }));
  const listening = await listen(server, address);
  await writeFile(
    path.join(directory, 'admin.kubeconfig'),
    kubeconfig({ server: `https://${listening.address}`, authority, token: adminToken }),
    { mode: 0o600 },
  );
  return {
    log,
    running: {
      listening: { https: listening.address },
      close: async () => {
        await listening.close();
        persistence.flush();
      },
    },
  };
});

async function administratorToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const token = randomBytes(24).toString('hex');
  await writeFile(file, token, { mode: 0o600 });
  return token;
}

function kubeconfig({ server, authority, token }: { server: string; authority: string; token: string }): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'kura-local', cluster: { server, 'certificate-authority-data': Buffer.from(authority).toString('base64') } }],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name: 'kura-local', context: { cluster: 'kura-local', user: 'admin' } }],
    'current-context': 'kura-local',
  });
}
