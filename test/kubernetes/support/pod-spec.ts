/** Pure: what a kubelet takes from a Pod to start its containers. */
import type { V1Container, V1Pod, V1Probe } from '@kubernetes/client-node';

interface Started {
  readonly words: readonly string[];
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** Of the images that our manifests name: what their Dockerfiles say. */
const images: Readonly<Record<string, { readonly entrypoint: readonly string[]; readonly directory: string }>> = {
  kura: { entrypoint: ['node'], directory: '/kura' },
  'envoyproxy/envoy': { entrypoint: ['/docker-entrypoint.sh'], directory: '/' },
};

/** The container's own command and environment. Throws for an image that no manifest of ours names. */
export function startOf(pod: V1Pod, container: V1Container, given: Readonly<Record<string, string>>): Started {
  // An overlay names the registry: registry.example/team/kura.
  const name = (container.image ?? '').split(':')[0] as string;
  const image = images[name] ?? images[name.split('/').at(-1) as string];
  if (image === undefined) throw new Error(`nobody here has the image ${container.image}`);
  const environment: Record<string, string> = { ...given };
  for (const { name, value = '', valueFrom } of container.env ?? []) {
    environment[name] = valueFrom === undefined ? expand(value, environment) : fieldOf(pod, valueFrom.fieldRef?.fieldPath ?? '');
  }
  const words = [...(container.command ?? image.entrypoint), ...(container.args ?? [])];
  return { words: words.map((word) => expand(word, environment)), directory: image.directory, environment };
}

/** The number of a probe's port, which is a number or the name of one of the container's ports. */
export function portOf(container: V1Container, { httpGet }: V1Probe): number {
  const port = httpGet?.port as string | number | undefined;
  const number = typeof port === 'number' ? port : container.ports?.find(({ name }) => name === port)?.containerPort;
  if (number === undefined) throw new Error(`${container.name} has no port ${port}`);
  return number;
}

export function isSidecar(container: V1Container): boolean {
  return container.restartPolicy === 'Always';
}

function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replace(/\$\((\w+)\)/g, (whole, name: string) => environment[name] ?? whole);
}

function fieldOf({ metadata, spec }: V1Pod, path: string): string {
  const label = /^metadata\.labels\['(.+)'\]$/.exec(path)?.[1];
  if (label !== undefined) return metadata?.labels?.[label] ?? '';
  const fields: Readonly<Record<string, string | undefined>> = {
    'metadata.name': metadata?.name,
    'metadata.namespace': metadata?.namespace,
    'spec.nodeName': spec?.nodeName,
  };
  const value = fields[path];
  if (value === undefined) throw new Error(`a Pod has no field ${path} here`);
  return value;
}
