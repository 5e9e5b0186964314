/** The policy file of a local system: saving it is what `kubectl apply` of the ConfigMap is on a cluster. */

import { unwatchFile, watchFile } from 'node:fs';
import { constants, copyFile, readFile } from 'node:fs/promises';
import type { KubernetesClient } from '../shared/kubernetes.ts';
import { publishConfigMap } from './cluster.ts';
import type { Console } from './console.ts';
import { publishLatest } from './latest.ts';

/** Polled, since editors replace a file in ways that no two watch interfaces tell alike. */
const pollMs = 200;
const configMap = 'kura-policy';

interface PolicyFileOptions {
  readonly client: KubernetesClient;
  readonly file: string;
  /** Where the file starts from when there is none. */
  readonly template: string;
  readonly console: Console;
  readonly signal: AbortSignal;
}

/** Keeps ConfigMap kura-policy equal to the file until `signal` aborts; resolves once it is there. A deleted file leaves the ConfigMap as it is. */
export async function followPolicyFile({ client, file, template, console, signal }: PolicyFileOptions): Promise<void> {
  await copyFile(template, file, constants.COPYFILE_EXCL).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const latest = publishLatest<string>({
    what: 'the policy',
    publish: (text) => publishConfigMap(client, { name: configMap, data: { 'policy.yaml': text } }),
    console,
    signal,
  });
  latest.set(await readFile(file, 'utf8'));
  await latest.settled();
  watchFile(file, { interval: pollMs, persistent: false }, () => {
    readFile(file, 'utf8').then(
      (text) => {
        console.say(`${file} changed: applying it`);
        latest.set(text);
      },
      () => console.say(`${file} is gone: the policy in force stays`),
    );
  });
  signal.addEventListener('abort', () => unwatchFile(file), { once: true });
}
