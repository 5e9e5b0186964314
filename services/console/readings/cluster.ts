/** Watches where the parts of kura are: the EndpointSlices of the shards, and Pods. */
import type { KubernetesObject, V1EndpointSlice, V1Pod } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import { Reflector } from '../../shared/reflector.ts';
import { type Identity, readSlices, type Shard } from '../../shared/shard-endpoints.ts';
import { uniqueShards } from '../../shared/unique-shards.ts';
import { type Part, partSelector, partsOf } from './parts.ts';

interface ClusterOptions {
  readonly client: KubernetesClient;
  readonly namespace: string;
  /** The cache Service. */
  readonly service: string;
  readonly log: Logger;
}

export class Cluster {
  readonly #namespace: string;
  readonly #slices: Reflector<V1EndpointSlice>;
  readonly #cachePods: Reflector<KubernetesObject>;
  readonly #partPods: Reflector<V1Pod>;
  /** Undefined after a change. */
  #shards: readonly Shard[] | undefined;
  #identity: Identity = 'pod';
  #parts: readonly Part[] | undefined;

  constructor({ client, namespace, service, log }: ClusterOptions) {
    this.#namespace = namespace;
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    const forgetShards = (): void => {
      this.#shards = undefined;
    };
    this.#slices = new Reflector<V1EndpointSlice>({
      client,
      path: `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
      labelSelector: `kubernetes.io/service-name=${service}`,
      onChange: forgetShards,
      log,
    });
    // For the weights.
    this.#cachePods = new Reflector<KubernetesObject>({
      client,
      path: pods,
      labelSelector: `app.kubernetes.io/name=${service}`,
      metadataOnly: true,
      onChange: forgetShards,
      log,
    });
    this.#partPods = new Reflector<V1Pod>({
      client,
      path: pods,
      labelSelector: partSelector,
      onChange: () => {
        this.#parts = undefined;
      },
      log,
    });
  }

  /** The same array until something changes. eds knows the identity of the shards. */
  shards(identity: Identity): readonly Shard[] {
    if (this.#shards === undefined || this.#identity !== identity) {
      const podOf = (name: string) => this.#cachePods.get(`${this.#namespace}/${name}`)?.metadata;
      this.#identity = identity;
      this.#shards = uniqueShards(readSlices(this.#slices.objects(), { identity, podOf }).candidates).shards;
    }
    return this.#shards;
  }

  get parts(): readonly Part[] {
    this.#parts ??= partsOf(this.#partPods.objects());
    return this.#parts;
  }

  /** True after the first list of each kind. */
  get isKnown(): boolean {
    return this.#slices.synced && this.#partPods.synced;
  }

  /** False while the API sends nothing, so the lists are old. */
  get isCurrent(): boolean {
    return this.#slices.healthy && this.#partPods.healthy;
  }

  async close(): Promise<void> {
    await Promise.all([this.#slices.close(), this.#cachePods.close(), this.#partPods.close()]);
  }
}
