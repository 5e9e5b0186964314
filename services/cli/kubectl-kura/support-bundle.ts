/** `kubectl kura support-bundle`: what a report of a fault needs, without tokens and credentials. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { getText } from '../client/console-page.ts';
import { type PodSummary, partOf, podsOf, selector } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { withoutSecrets } from './redaction.ts';

/** Maximum Pods of each part: the first by name. */
const maxPodsOfPart = 10;
const maxLogLines = 2_000;
/** Paths of each part, by the port of its Pod. Envoy's admin interface listens on the loopback of its Pod. */
const pages: Readonly<Record<string, readonly { readonly port: number; readonly paths: readonly string[] }[]>> = {
  'kura-console': [{ port: 18200, paths: ['/status.json'] }],
  'kura-eds': [{ port: 9904, paths: ['/debug/streams', '/debug/assignment', '/metrics'] }],
  'kura-envoy': [{ port: 9901, paths: ['/config_dump', '/clusters', '/server_info', '/certs'] }],
};
const kinds = 'statefulsets,daemonsets,deployments,horizontalpodautoscalers,poddisruptionbudgets';
/** No Secret is read. */
const objects: readonly (readonly [file: string, words: readonly string[]])[] = [
  ['pods.yaml', ['get', 'pods', '-l', selector, '-o', 'yaml']],
  ['workloads.yaml', ['get', kinds, '-l', 'app.kubernetes.io/part-of=kura', '-o', 'yaml']],
  ['endpointslices.yaml', ['get', 'endpointslices', '-o', 'yaml']],
  ['policy.yaml', ['get', 'configmap', 'kura-policy', '-o', 'yaml']],
  // A kura without origins has no such ConfigMap.
  ['origins.yaml', ['get', 'configmap', 'kura-origins', '--ignore-not-found', '-o', 'yaml']],
  ['events.txt', ['get', 'events', '--sort-by=.lastTimestamp']],
  ['version.txt', ['version']],
];

/** Writes the files into a new folder. Returns how many were written, and what could not be read. */
export async function writeBundle(kubectl: Kubectl, folder: string): Promise<{ files: number; faults: readonly string[] }> {
  await mkdir(path.dirname(folder), { recursive: true });
  await mkdir(folder);
  const faults: string[] = [];
  let files = 0;
  const write = async (name: string, read: () => Promise<string>): Promise<void> => {
    try {
      await writeFile(path.join(folder, name), withoutSecrets(await read()), { flag: 'wx' });
      files += 1;
    } catch (error) {
      faults.push(withoutSecrets(`${name}: ${(error as Error).message}`));
    }
  };
  for (const [name, words] of objects) await write(name, () => kubectl.text(words));
  const pods = await podsOf(kubectl).catch((error: Error) => {
    faults.push(withoutSecrets(`Pods: ${error.message}`));
    return [];
  });
  for (const pod of selected(pods)) await writePod(kubectl, pod, write);
  if (faults.length > 0) await writeFile(path.join(folder, 'faults.txt'), `${faults.join('\n')}\n`);
  return { files, faults };
}

function selected(pods: readonly PodSummary[]): PodSummary[] {
  const byPart = Map.groupBy(pods, partOf);
  const byName = (one: PodSummary, other: PodSummary): number => one.metadata.name.localeCompare(other.metadata.name);
  return [...byPart.values()].flatMap((all) => all.toSorted(byName).slice(0, maxPodsOfPart));
}

type Write = (name: string, read: () => Promise<string>) => Promise<void>;

async function writePod(kubectl: Kubectl, pod: PodSummary, write: Write): Promise<void> {
  const { name } = pod.metadata;
  const words = ['logs', name, '--all-containers', '--prefix', `--tail=${maxLogLines}`];
  await write(`${name}.log`, () => kubectl.text(words));
  for (const { port, paths } of pages[partOf(pod)] ?? []) {
    const forward = await kubectl.forward(name, port).catch((error: Error) => error);
    for (const page of paths) {
      await write(`${name}.${page.slice(1).replace('/', '-')}`, async () => {
        if (forward instanceof Error) throw forward;
        return await getText(`${forward.url}${page}`);
      });
    }
    if (!(forward instanceof Error)) await forward.close();
  }
}
