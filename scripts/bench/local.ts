/** Shared by the benches of whole request paths: a local system with one shard, tokens, and objects that kura and nginx both have. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { requestToken } from '../../services/local/cluster.ts';
import type { LocalFile } from '../../services/local/local-file.ts';
import { connectKubernetes } from '../../services/shared/kubernetes.ts';

const root = path.resolve(import.meta.dirname, '..', '..');

/** The kernel kills the system with this process. `options`: more of `npm start`. */
export async function startLocal(folder: string, options: readonly string[] = []): Promise<LocalFile> {
  const state = path.join(folder, 'state');
  const fixed = ['--state', state, '--port', '0', '--shards', '1', '--shard-bytes', '8Gi'];
  const words = [path.join(root, 'services', 'local', 'main.ts'), ...fixed, ...options];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', process.execPath, ...words], { stdio: 'ignore' });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('the local system did not start')));
  const file = path.join(state, 'local.json');
  const ready = async (): Promise<LocalFile> => {
    for (;;) {
      try {
        return JSON.parse(readFileSync(file, 'utf8')) as LocalFile;
      } catch {
        await delay(100);
      }
    }
  };
  return await Promise.race([ready(), ended]);
}

/** Requests many tokens of one workload, as its Pods would have. */
export async function makeTokens({ kubeconfig }: LocalFile, count: number): Promise<string[]> {
  const client = connectKubernetes({ kubeconfig });
  const wanted = { namespace: 'vision', serviceAccount: 'trainer', audience: 'kura', seconds: 3_600 };
  const made = await Promise.all(Array.from({ length: count }, () => requestToken(client, wanted)));
  await client.close();
  return made.map(({ token }) => token);
}

/** Stores the same body under the same path in kura and in nginx' folder. */
export async function place(
  { url, token, folder }: { url: string; token: string; folder: string },
  target: string,
  body: Buffer,
): Promise<void> {
  const { status } = await fetch(url + target, {
    method: 'PUT',
    body: new Uint8Array(body),
    headers: { authorization: `Bearer ${token}` },
  });
  if (status !== 201) throw new Error(`PUT ${target} returned ${status}`);
  const file = path.join(folder, 'www', target);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, body);
}
