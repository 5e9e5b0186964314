/** Pure: the parts of kura besides the shards, from their Pods. */
import type { V1Pod } from '@kubernetes/client-node';

const partKinds = ['envoy', 'authz', 'eds', 'origin', 'console'] as const;
export type PartKind = (typeof partKinds)[number];

/** A process with metrics. */
export interface Part {
  readonly kind: PartKind;
  /** Name of the Pod. */
  readonly name: string;
  readonly address: string;
  /** Port of the metrics. */
  readonly port: number;
  /** Tag of the image. */
  readonly tag: string;
}

/** Selects the Pods that `partsOf` reads. */
export const partSelector = `app.kubernetes.io/name in (${partKinds.map((kind) => `kura-${kind}`).join(',')})`;

export function partsOf(pods: Iterable<V1Pod>): Part[] {
  const parts = [...pods].flatMap(({ metadata, spec, status }) => {
    const address = status?.podIP;
    const own = partKinds.find((kind) => metadata?.labels?.['app.kubernetes.io/name'] === `kura-${kind}`);
    if (address === undefined || own === undefined || status?.phase === 'Succeeded' || status?.phase === 'Failed') return [];
    return [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].flatMap(({ image = '', ports = [] }) =>
      ports.flatMap(({ name, containerPort }): Part[] => {
        const kind = name === 'metrics' ? own : name === 'authz-metrics' ? 'authz' : undefined;
        return kind === undefined ? [] : [{ kind, name: metadata?.name ?? '', address, port: containerPort, tag: tagOf(image) }];
      }),
    );
  });
  return parts.sort((one, other) => partKinds.indexOf(one.kind) - partKinds.indexOf(other.kind) || one.name.localeCompare(other.name));
}

function tagOf(image: string): string {
  return /:([\w.-]+)(@|$)/.exec(image)?.[1] ?? '';
}
