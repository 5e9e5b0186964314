/** authz as a process with the fake Kubernetes API, namespace vision, its ServiceAccount trainer and the shipped policy. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoreV1Api } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import type { CheckResponse__Output } from '../../../proto/generated/envoy/service/auth/v3/CheckResponse.ts';
import { loadEnvoyProtos } from '../../../proto/load.ts';
import { type FakeKubernetes, pod, startFakeKubernetes } from '../../fake-kubernetes/fake-kubernetes.ts';
import { readMetric } from '../../support/metrics.ts';
import { type Service, startService, temporaryFolder } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';

interface Authz {
  readonly service: Service;
  /** The HTTP status that Envoy would return; 200 for an allow. */
  check(token: string, asked?: { method?: string; target?: string }): Promise<number>;
  /** The terms for the shard; undefined for a denial. */
  terms(token: string, target: string): Promise<string | undefined>;
  /** The sum of a metric over the labels that hold `labels`. */
  metric(name: string, labels?: string): Promise<number>;
}

export interface Cluster extends FakeKubernetes {
  /** A running Pod and the token that is bound to it. */
  run(name: string): Promise<{ uid: string; token: string }>;
  tokenOf(podName: string | undefined, options?: { audience?: string }): Promise<string>;
  readonly signingKey: string;
}

const codes: Record<string, number> = {
  Unauthorized: 401,
  Forbidden: 403,
  ServiceUnavailable: 503,
  BadRequest: 400,
};

export async function startCluster(t: ExecutionContext): Promise<Cluster> {
  const fake = await startFakeKubernetes(t);
  const core = fake.client.api(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: 'kura-system' } } }).catch(() => undefined);
  await core.createNamespacedServiceAccount({ namespace: 'vision', body: { metadata: { name: 'trainer' } } }).catch(() => undefined);
  const document = await readFile(path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'base', 'policy.yaml'), 'utf8');
  const body = { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': document } };
  await core.createNamespacedConfigMap({ namespace: 'kura-system', body });
  const tokenOf: Cluster['tokenOf'] = async (podName, { audience = 'kura' } = {}) => {
    const bound = podName === undefined ? undefined : await core.readNamespacedPod({ namespace: 'vision', name: podName });
    const { status } = await core.createNamespacedServiceAccountToken({
      namespace: 'vision',
      name: 'trainer',
      body: {
        spec: {
          audiences: [audience],
          expirationSeconds: 3_600,
          ...(bound === undefined
            ? {}
            : { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: podName as string, uid: bound.metadata?.uid as string } }),
        },
      },
    });
    return status?.token as string;
  };
  return {
    ...fake,
    signingKey: await readFile(path.join(fake.directory, 'sa.key'), 'utf8'),
    tokenOf,
    run: async (name) => {
      const made = await core.createNamespacedPod({ namespace: 'vision', body: pod(name) });
      return { uid: made.metadata?.uid as string, token: await tokenOf(name) };
    },
  };
}

/** Resolves when authz is ready and watches the Pods. */
export async function startAuthz(t: ExecutionContext, kubeconfig: string, environment: Record<string, string> = {}): Promise<Authz> {
  const authz = await launchAuthz(t, kubeconfig, environment);
  await waitFor('authz is ready and watches', async () => {
    const { ok } = await fetch(`http://${authz.service.listening.metrics}/readyz`);
    return ok && (await authz.metric('kura_authz_pod_watch_healthy')) === 1;
  });
  return authz;
}

/** Resolves as soon as it listens. */
export async function launchAuthz(t: ExecutionContext, kubeconfig: string, environment: Record<string, string> = {}): Promise<Authz> {
  const socket = path.join(await temporaryFolder(t), 'authz.sock');
  const service = await startService('authz', {
    KURA_AUTHZ_LISTEN: `unix:${socket}`,
    KURA_AUTHZ_METRICS_LISTEN: '127.0.0.1:0',
    KURA_AUTHZ_KUBECONFIG: kubeconfig,
    KURA_AUTHZ_CREDENTIAL_FILE: 'off',
    ...environment,
  });
  const { Authorization } = loadEnvoyProtos().envoy.service.auth.v3;
  const client = new Authorization(`unix:${socket}`, credentials.createInsecure());
  t.teardown(async () => {
    client.close();
    await service.stop('SIGKILL');
  });
  const metric: Authz['metric'] = (name, labels = '') => readMetric(`http://${service.listening.metrics}/metrics`, name, labels);
  const ask = (token: string, method: string, target: string): Promise<CheckResponse__Output> =>
    new Promise((resolve, reject) => {
      const http = { method, path: target, headers: { authorization: `Bearer ${token}` } };
      client.Check({ attributes: { request: { http } } }, (error, response) => (response ? resolve(response) : reject(error)));
    });
  return {
    service,
    metric,
    check: async (token, { method = 'GET', target = '/objects/vision/x' } = {}) => {
      const { denied_response: denied } = await ask(token, method, target);
      return denied ? (codes[String(denied.status?.code)] ?? 0) : 200;
    },
    terms: async (token, target) => {
      const { ok_response: ok } = await ask(token, 'GET', target);
      return ok?.headers?.find(({ header }) => header?.key === 'x-kura-terms')?.header?.value;
    },
  };
}
