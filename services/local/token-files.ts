/** The workloads' token files: what a projected volume is in a Pod. Each is replaced whole, well before it expires. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesClient } from '../shared/kubernetes.ts';
import { replaceFile } from '../shared/write-file.ts';
import { requestToken, type Workload } from './cluster.ts';
import type { Console } from './console.ts';
import { untilDone } from './retry.ts';

/** The kubelet renews at 80 % of a token's life too. */
const renewAt = 0.8;

interface TokenFilesOptions {
  readonly client: KubernetesClient;
  readonly directory: string;
  readonly workloads: readonly Workload[];
  readonly audience: string;
  readonly tokenSeconds: number;
  readonly console: Console;
  readonly signal: AbortSignal;
}

/** Writes a token file for each workload, keeps them fresh until `signal` aborts, and returns them by `<namespace>/<ServiceAccount>`. */
export async function keepTokenFiles(options: TokenFilesOptions): Promise<Readonly<Record<string, string>>> {
  const { directory, workloads, console, signal } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const files = workloads.map((workload) => ({ workload, file: path.join(directory, `${workload.namespace}-${workload.serviceAccount}`) }));
  for (const { workload, file } of files) {
    let renewalMs = await writeToken(options, workload, file);
    const keepFresh = async (): Promise<void> => {
      while (!signal.aborted) {
        await delay(renewalMs, undefined, { signal }).catch(() => undefined);
        await untilDone({
          attempt: async () => {
            renewalMs = await writeToken(options, workload, file);
          },
          report: (error) => console.print(`cannot renew ${file} yet: ${error.message.split('\n', 1)[0]}`),
          signal,
        });
      }
    };
    void keepFresh();
  }
  return Object.fromEntries(files.map(({ workload, file }) => [`${workload.namespace}/${workload.serviceAccount}`, file]));
}

/** Writes one token and returns in how many milliseconds it is to be renewed. */
async function writeToken({ client, audience, tokenSeconds }: TokenFilesOptions, workload: Workload, file: string): Promise<number> {
  const { token, expiresAt } = await requestToken(client, { ...workload, audience, seconds: tokenSeconds });
  await replaceFile(file, token, { mode: 0o600 });
  return Math.max(1_000, (expiresAt.getTime() - Date.now()) * renewAt);
}
