import path from 'node:path';
import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import { connectKubernetes, type KubernetesClient } from '../../services/shared/kubernetes.ts';
import { type Service, startService, temporaryFolder } from '../support/service.ts';

export interface FakeKubernetes {
  readonly service: Service;
  readonly client: KubernetesClient;
  readonly directory: string;
  readonly kubeconfig: string;
  readonly url: string;
}

/** A fake Kubernetes API for one test, with namespace `vision`. */
export async function startFakeKubernetes(
  t: ExecutionContext,
  environment: Readonly<Record<string, string>> = {},
): Promise<FakeKubernetes> {
  const directory = await temporaryFolder(t);
  const fake = await startFakeKubernetesOn(t, directory, environment);
  const core = fake.client.api(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: 'vision' } } });
  return fake;
}

export async function startFakeKubernetesOn(
  t: ExecutionContext,
  directory: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<FakeKubernetes> {
  const service = await startService('fake-kubernetes', {
    KURA_KUBERNETES_LISTEN: '127.0.0.1:0',
    KURA_KUBERNETES_DIRECTORY: directory,
    ...environment,
  });
  const kubeconfig = path.join(directory, 'admin.kubeconfig');
  const client = connectKubernetes({ kubeconfig });
  t.teardown(async () => {
    await client.close();
    await service.stop('SIGKILL');
  });
  return { service, client, directory, kubeconfig, url: `https://${service.listening.https}` };
}

export function pod(name: string, { node, labels = {} }: { node?: string; labels?: Record<string, string> } = {}): V1Pod {
  return {
    metadata: { name, labels },
    spec: {
      serviceAccountName: 'trainer',
      containers: [{ name: 'main', image: 'none' }],
      ...(node === undefined ? {} : { nodeName: node }),
    },
  };
}
