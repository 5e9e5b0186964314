/** The token files of the workloads, in place of the projected volumes of Pods. Each file is replaced atomically before its token expires. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { KubernetesClient } from '../shared/kubernetes.ts';
import { replaceFile } from '../shared/write-file.ts';
import { requestToken, type Workload } from './cluster.ts';
import type { Console } from './console.ts';
import { untilDone } from './retry.ts';

/** The kubelet also renews a token at 80 % of its lifetime. */
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

/** Writes a token file for each workload and renews it until `signal` aborts. Returns the files by `<namespace>/<ServiceAccount>`. */
export async function keepTokenFiles(options: TokenFilesOptions): Promise<Readonly<Record<string, string>>> {
  const { directory, workloads, console, signal } = options;
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const files = workloads.map((workload) => ({ workload, file: path.join(directory, `${workload.namespace}-${workload.serviceAccount}`) }));
  for (const { workload, file } of files) {
    let renewalMs = await writeToken(options, workload, file);
    const renew = async (): Promise<void> => {
      while (!signal.aborted) {
        await delay(renewalMs, undefined, { signal }).catch(() => undefined);
        await untilDone({
          attempt: async () => {
            renewalMs = await writeToken(options, workload, file);
          },
          report: (error) => console.print(`cannot renew ${file}: ${error.message.split('\n', 1)[0]}; retrying`),
          signal,
        });
      }
    };
    void renew();
  }
  return Object.fromEntries(files.map(({ workload, file }) => [`${workload.namespace}/${workload.serviceAccount}`, file]));
}

/** Writes one token and returns the milliseconds until its renewal. */
async function writeToken({ client, audience, tokenSeconds }: TokenFilesOptions, workload: Workload, file: string): Promise<number> {
  const { token, expiresAt } = await requestToken(client, { ...workload, audience, seconds: tokenSeconds });
  await replaceFile(file, token, { mode: 0o600 });
  return Math.max(1_000, (expiresAt.getTime() - Date.now()) * renewAt);
}
