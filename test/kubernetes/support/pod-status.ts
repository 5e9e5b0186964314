/** What the API is told of a Pod: its address, and whether all of its containers are ready. */
import type { V1Pod } from '@kubernetes/client-node';
import { waitFor } from '../../support/wait.ts';
import { type Cluster, patchTypes } from '../contract/cluster.ts';

/** An API that is away hears of it afterwards. */
const tellLimitMs = 180_000;

export class PodStatus {
  readonly #pod: V1Pod;
  readonly #cluster: Cluster;
  readonly #ready = new Map<string, boolean>();
  #address: string | undefined;
  #told: boolean | undefined;
  #isSilent = false;
  #isClosed = false;
  #telling: Promise<void> = Promise.resolve();

  /** `containers` are those that have to be ready. */
  constructor({ pod, cluster, containers }: { pod: V1Pod; cluster: Cluster; containers: readonly string[] }) {
    this.#pod = pod;
    this.#cluster = cluster;
    for (const name of containers) this.#ready.set(name, false);
  }

  get isReady(): boolean {
    return [...this.#ready.values()].every((each) => each);
  }

  /** From now on nobody is told anything: the Pod has ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#telling;
  }

  setAddress(address: string): void {
    this.#address = address;
  }

  setReady(container: string, isReady: boolean): void {
    if (this.#isSilent || this.#isClosed) return;
    this.#ready.set(container, isReady);
    this.#telling = this.#telling.then(() => this.#tell());
  }

  /** While it is silent others may tell the API. */
  setSilent(isSilent: boolean): void {
    this.#isSilent = isSilent;
    this.#told = undefined;
  }

  async #tell(): Promise<void> {
    const { isReady } = this;
    if (this.#told === isReady || this.#address === undefined) return;
    const lastTransitionTime = new Date().toISOString();
    const conditions = ['Ready', 'ContainersReady'].map((type) => ({ type, status: isReady ? 'True' : 'False', lastTransitionTime }));
    const { name, namespace, uid } = this.#pod.metadata ?? {};
    const request = {
      body: { metadata: { uid }, status: { phase: 'Running', podIP: this.#address, podIPs: [{ ip: this.#address }], conditions } },
      headers: { 'content-type': patchTypes.strategic },
    };
    const path = `/api/v1/namespaces/${namespace}/pods/${name}/status`;
    // 404 and 409: the Pod is gone, or another one has its name.
    const isKnown = async (): Promise<boolean> =>
      this.#isClosed || [200, 404, 409].includes((await this.#cluster.call('PATCH', path, request)).status);
    await waitFor(`the status of ${name} is known`, isKnown, { withinMs: tellLimitMs, everyMs: 100 });
    this.#told = isReady;
  }
}
