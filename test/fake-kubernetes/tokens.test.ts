/** What only the fake Kubernetes API promises of its tokens. The contract has the rest. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ApiException, AuthenticationV1Api, CoreV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { Agent, request } from 'undici';
import { pod, startFakeKubernetes, startFakeKubernetesOn } from './fake-kubernetes.ts';

const namespace = 'vision';
const short = { KURA_KUBERNETES_SHORTEST_TOKEN: '5s' };

test.serial('tokens may live as shortly as the settings allow, and no shorter', async (t) => {
  const { client } = await startFakeKubernetes(t, short);
  const core = client.api(CoreV1Api);
  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'trainer' } } });
  const ask = (expirationSeconds: number) =>
    core.createNamespacedServiceAccountToken({ namespace, name: 'trainer', body: { spec: { audiences: ['kura'], expirationSeconds } } });
  t.is((await ask(5)).spec?.expirationSeconds, 5);
  const error = await t.throwsAsync(ask(4), { instanceOf: ApiException });
  t.regex((error as unknown as ApiException<string>).body, /may not specify a duration less than 5 seconds/);
});

test.serial('a ServiceAccount with a token for the API may do everything: there is no RBAC', async (t) => {
  const { client, url } = await startFakeKubernetes(t);
  const core = client.api(CoreV1Api);
  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'trainer' } } });
  const body = { spec: { audiences: ['https://kubernetes.default.svc'] } };
  const { status } = await core.createNamespacedServiceAccountToken({ namespace, name: 'trainer', body });
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false } });
  t.teardown(() => dispatcher.close());
  const call = async (token: string): Promise<number> => {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await request(`${url}/api/v1/namespaces`, { dispatcher, headers });
    await answer.body.dump();
    return answer.statusCode;
  };
  t.is(await call(String(status?.token)), 200);
  await core.deleteNamespacedServiceAccount({ namespace, name: 'trainer' });
  t.is(await call(String(status?.token)), 401);
});

test.serial('tokens are good across a kill, and their keys and the tokens themselves are in no log', async (t) => {
  const first = await startFakeKubernetes(t, { KURA_KUBERNETES_LOG_LEVEL: 'trace' });
  const core = first.client.api(CoreV1Api);
  await core.createNamespacedServiceAccount({ namespace, body: { metadata: { name: 'trainer' } } });
  const { metadata } = await core.createNamespacedPod({ namespace, body: pod('p') });
  const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'p', uid: String(metadata?.uid) };
  const spec = { audiences: ['kura'], boundObjectRef };
  const { status } = await core.createNamespacedServiceAccountToken({ namespace, name: 'trainer', body: { spec } });
  const token = String(status?.token);
  await first.service.stop('SIGKILL');
  const second = await startFakeKubernetesOn(t, first.directory, { KURA_KUBERNETES_LOG_LEVEL: 'trace' });
  const review = await second.client.api(AuthenticationV1Api).createTokenReview({ body: { spec: { token, audiences: ['kura'] } } });
  t.true(review.status?.authenticated);
  const secrets = [token, token.split('.')[2] as string, await readFile(path.join(first.directory, 'admin.token'), 'utf8')];
  for (const secret of secrets) t.false((first.service.output() + second.service.output()).includes(secret));
});
