/** A kura in a cluster, as kubectl reaches it. */
import type { Forward, Kubectl } from './kubectl.ts';

export interface PodSummary {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec: { readonly containers: readonly { readonly name: string }[] };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export const selector = 'app.kubernetes.io/name in (kura-cache,kura-envoy,kura-authz,kura-eds,kura-console,kura-origin)';
const pagePort = 18200;

export async function podsOf(kubectl: Kubectl): Promise<readonly PodSummary[]> {
  return (await kubectl.json<{ items: readonly PodSummary[] }>(['get', 'pods', '-l', selector])).items;
}

export function partOf(pod: PodSummary): string {
  return pod.metadata.labels?.['app.kubernetes.io/name'] ?? '';
}

/** Opens the status page of a replica of the console that is ready. */
export async function forwardConsole(kubectl: Kubectl): Promise<Forward> {
  const consoles = (await podsOf(kubectl)).filter((pod) => partOf(pod) === 'kura-console');
  if (consoles.length === 0) throw new Error('no Pod of the console exists: add the component console, and check --namespace');
  const ready = consoles.find(({ status }) => status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True'));
  if (ready === undefined) throw new Error(`0 of ${consoles.length} Pods of the console are ready`);
  return await kubectl.forward(ready.metadata.name, pagePort);
}
