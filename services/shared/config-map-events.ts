/** Reports the outcome of each document of a ConfigMap as a Kubernetes Event on it. */
import { ApiException, CoreV1Api, PatchStrategy, setHeaderOptions, type V1ConfigMap } from '@kubernetes/client-node';
import type { KubernetesClient } from './kubernetes.ts';
import type { Logger } from './log.ts';

export interface DocumentOutcome {
  /** Such as `PolicyAccepted`. A reason that ends with `Rejected` makes a Warning. */
  readonly reason: string;
  /** Hash of the document. */
  readonly hash: string;
  readonly message: string;
}

const maxMessageCharacters = 1_000;
/** Events that wait for the API. Each is a change of a document that the API has just sent. */
const maxPending = 100;

/** One Event for each document and outcome. A repetition, also by another replica, updates its count, time and message. */
export class ConfigMapEvents {
  readonly #core: CoreV1Api;
  readonly #component: string;
  readonly #log: Logger;
  #lastSeconds = 0;
  #pending = 0;
  /** Chains the calls, because a later report of the same document must win. */
  #work: Promise<void> = Promise.resolve();

  /** The Events name `component`, such as `kura-authz`, as their source. */
  constructor({ client, component, log }: { client: KubernetesClient; component: string; log: Logger }) {
    this.#core = client.api(CoreV1Api);
    this.#component = component;
    this.#log = log;
  }

  /** Does not wait for the API. */
  report(configMap: V1ConfigMap, outcome: DocumentOutcome): void {
    if (this.#pending >= maxPending) {
      this.#log.warn({ reason: `${maxPending} Events wait for the Kubernetes API` }, 'cannot write the Event');
      return;
    }
    // The times of Events are whole seconds. kubectl sorts by them, so the later of two outcomes needs a later second.
    this.#lastSeconds = Math.max(Math.floor(Date.now() / 1000), this.#lastSeconds + 1);
    const at = new Date(this.#lastSeconds * 1000);
    this.#pending++;
    this.#work = this.#work
      .then(() => this.#write(configMap, outcome, at))
      .catch((error: unknown) => this.#log.warn({ reason: (error as Error).message.split('\n', 1)[0] }, 'cannot write the Event'))
      .finally(() => this.#pending--);
  }

  async #write({ metadata }: V1ConfigMap, { reason, hash, message }: DocumentOutcome, at: Date): Promise<void> {
    const { name: configMap = '', namespace = '', uid } = metadata ?? {};
    const name = `${configMap}.${reason.toLowerCase()}.${hash}`;
    // A ConfigMap that was created again has another uid, by which kubectl selects its Events.
    const changing = {
      involvedObject: { apiVersion: 'v1', kind: 'ConfigMap', namespace, name: configMap, ...(uid === undefined ? {} : { uid }) },
      message: message.slice(0, maxMessageCharacters),
      lastTimestamp: at,
    };
    const type = reason.endsWith('Rejected') ? 'Warning' : 'Normal';
    const source = { component: this.#component };
    const body = { metadata: { name, namespace }, reason, type, source, firstTimestamp: at, count: 1, ...changing };
    try {
      await this.#core.createNamespacedEvent({ namespace, body });
    } catch (error) {
      if (!(error instanceof ApiException && error.code === 409)) throw error;
      const patch = (fields: object) =>
        this.#core.patchNamespacedEvent({ namespace, name, body: fields }, setHeaderOptions('Content-Type', PatchStrategy.MergePatch));
      // The first response has the count. So the service needs no right to read Events.
      const { count = 1 } = await patch(changing);
      await patch({ count: count + 1 });
    }
  }
}
