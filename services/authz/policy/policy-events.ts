/** Reports the outcome of each policy document as a Kubernetes Event on its ConfigMap. */
import { ApiException, CoreV1Api, type V1ConfigMap } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';

interface PolicyOutcome {
  readonly reason: 'PolicyAccepted' | 'PolicyRejected';
  /** Hash of the document. */
  readonly hash: string;
  readonly message: string;
}

const maxMessageCharacters = 1_000;

export class PolicyEvents {
  readonly #core: CoreV1Api;
  readonly #log: Logger;

  constructor({ client, log }: { client: KubernetesClient; log: Logger }) {
    this.#core = client.api(CoreV1Api);
    this.#log = log;
  }

  /** Creates one Event for each document and outcome. The first replica creates it, the others find it. Does not wait for the API. */
  report({ metadata }: V1ConfigMap, { reason, hash, message }: PolicyOutcome): void {
    const { name = '', namespace = '', uid } = metadata ?? {};
    const now = new Date();
    const body = {
      metadata: { name: `${name}.${reason.toLowerCase()}.${hash}`, namespace },
      involvedObject: { apiVersion: 'v1', kind: 'ConfigMap', namespace, name, ...(uid === undefined ? {} : { uid }) },
      reason,
      type: reason === 'PolicyAccepted' ? 'Normal' : 'Warning',
      message: message.slice(0, maxMessageCharacters),
      source: { component: 'kura-authz' },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    this.#core.createNamespacedEvent({ namespace, body }).catch((error: unknown) => {
      if (!(error instanceof ApiException && error.code === 409))
        this.#log.warn({ reason: (error as Error).message.split('\n', 1)[0] }, 'cannot create the Event');
    });
  }
}
