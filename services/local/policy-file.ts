/** The policy file of a local system. Saving the file replaces `kubectl apply` of the ConfigMap in a cluster. */
import { constants, copyFile, readFile, writeFile } from 'node:fs/promises';
import { FilePoll } from '../shared/file-poll.ts';
import type { KubernetesClient } from '../shared/kubernetes.ts';
import { publishConfigMap } from './cluster.ts';
import type { Console } from './console.ts';
import { publishLatest } from './latest.ts';

const pollMs = 200;
const configMap = 'kura-policy';

interface PolicyFileOptions {
  readonly client: KubernetesClient;
  readonly file: string;
  /** The initial content, if the file does not exist. */
  readonly template: string;
  /** Completes the content once, before it is published. */
  readonly complete?: (text: string) => string;
  readonly console: Console;
  readonly signal: AbortSignal;
}

/**
 * Keeps ConfigMap kura-policy equal to the file until `signal` aborts. Resolves when the ConfigMap exists. A deleted file does not change
 * it.
 */
export async function followPolicyFile({
  client,
  file,
  template,
  complete = (text) => text,
  console,
  signal,
}: PolicyFileOptions): Promise<void> {
  await copyFile(template, file, constants.COPYFILE_EXCL).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
  });
  const latest = publishLatest<string>({
    what: 'the policy',
    publish: (text) => publishConfigMap(client, { name: configMap, data: { 'policy.yaml': text } }),
    console,
    signal,
  });
  const found = await readFile(file, 'utf8');
  let known = complete(found);
  if (known !== found) {
    await writeFile(file, known);
    console.print(`${file} has new rules for the origins`);
  }
  latest.set(known);
  await latest.settled();
  const poll = new FilePoll({
    intervalMs: pollMs,
    reread: async () => {
      const text = await readFile(file, 'utf8');
      if (text === known) return;
      known = text;
      console.print(`${file} changed: applying it`);
      latest.set(text);
    },
    onFault: () => console.print(`cannot read ${file}: keeping the previous policy`),
  });
  signal.addEventListener('abort', () => poll.close(), { once: true });
}
