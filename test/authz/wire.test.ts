/** authz with the fake Kubernetes API: real tokens, real Pods, a real socket. */
import { generateKeyPairSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { CoreV1Api, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import test from 'ava';
import { watchPods } from '../../services/authz/identity/pods.ts';
import { createLogger } from '../../services/shared/log.ts';
import { pod, startFakeKubernetesOn } from '../fake-kubernetes/fake-kubernetes.ts';
import { remint } from '../support/tokens.ts';
import { waitFor } from '../support/wait.ts';
import { startAuthz, startCluster } from './support/authz.ts';

const seconds = (offset: number): number => Math.floor(Date.now() / 1000) + offset;

test.serial('an invalid token gets 401 and costs no review', async (t) => {
  const cluster = await startCluster(t);
  const authz = await startAuthz(t, cluster.kubeconfig);
  const { token } = await cluster.run('p');
  const { signingKey } = cluster;
  const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const [head, body] = token.split('.') as [string, string];
  const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url');
  const wrong: Record<string, string> = {
    garbage: 'garbage',
    'three parts of garbage': 'a.b.c',
    'alg none': `${none}.${body}.`,
    'no signature': `${head}.${body}.`,
    'another key': remint(token, foreign, {}),
    'another key of an unknown id': remint(token, foreign, { header: { kid: 'forged' } }),
    'a changed claim': `${head}.${remint(token, foreign, { claims: { sub: 'x' } }).split('.')[1]}.${token.split('.')[2]}`,
    expired: remint(token, signingKey, { claims: { exp: seconds(-31) } }),
    'not yet valid': remint(token, signingKey, { claims: { nbf: seconds(40) } }),
    'another audience': await cluster.tokenOf('p', { audience: 'other' }),
  };
  for (const [what, presented] of Object.entries(wrong)) t.is(await authz.check(presented), 401, what);
  t.is(await authz.metric('kura_authz_reviews_total'), 0);
  t.is(await authz.check(token), 200);
  t.is(await authz.check(remint(token, signingKey, { claims: { exp: seconds(-20) } })), 200, 'within the skew of clocks');
  t.is(await authz.check(remint(token, signingKey, { claims: { nbf: seconds(20) } })), 200, 'within the skew of clocks');
  await authz.service.stop();
  for (const presented of [token, ...Object.values(wrong)]) {
    for (const part of presented.split('.')) {
      if (part.length > 40) t.false(authz.service.output().includes(part), 'token material in the log');
    }
  }
  t.regex(authz.service.output(), /"audit":\{"decision":"unauthenticated"/);
  t.regex(authz.service.output(), /"audit":\{"decision":"allow".*"who":"vision\/trainer"/);
});

test.serial('a token without a Pod is refused unless a setting allows it', async (t) => {
  const cluster = await startCluster(t);
  const [strict, lenient] = await Promise.all([
    startAuthz(t, cluster.kubeconfig),
    startAuthz(t, cluster.kubeconfig, { KURA_AUTHZ_ALLOW_UNBOUND: 'true' }),
  ]);
  const token = await cluster.tokenOf(undefined);
  t.is(await strict.check(token), 401);
  t.is(await lenient.check(token), 200);
});

test.serial('the token of a deleted or replaced Pod is refused in under 1 s by every authz', async (t) => {
  const cluster = await startCluster(t);
  const both = await Promise.all([startAuthz(t, cluster.kubeconfig), startAuthz(t, cluster.kubeconfig)]);
  const core = cluster.client.api(CoreV1Api);
  for (const replace of [false, true]) {
    const { token } = await cluster.run(`p-${replace}`);
    for (const authz of both) {
      // The first result may be older than the watch's news of the Pod.
      t.is(await authz.check(token), 200);
      t.is(await authz.check(token), 200);
    }
    await core.deleteNamespacedPod({ namespace: 'vision', name: `p-${replace}`, gracePeriodSeconds: 0 });
    if (replace) await core.createNamespacedPod({ namespace: 'vision', body: pod(`p-${replace}`) });
    const startedAt = performance.now();
    for (const authz of both) await waitFor('refused', async () => (await authz.check(token)) === 401, { withinMs: 1_000 });
    t.true(performance.now() - startedAt < 1_000);
  }
});

test.serial(
  'without the API known tokens stay valid, unknown ones get 503, the log has one line, and all recovers afterwards',
  async (t) => {
    const cluster = await startCluster(t);
    const authz = await startAuthz(t, cluster.kubeconfig, {
      KURA_AUTHZ_RESULT_AGE: '0s',
      KURA_AUTHZ_WATCHED_RESULT_AGE: '0s',
      KURA_AUTHZ_REVIEW_DEADLINE: '200ms',
    });
    const [known, unknown] = [await cluster.run('known'), await cluster.run('unknown')];
    t.is(await authz.check(known.token), 200);
    cluster.service.child.kill('SIGSTOP');
    await waitFor('served without the API', async () => {
      t.is(await authz.check(known.token), 200);
      return (await authz.metric('kura_authz_served_without_api_total')) > 3;
    });
    t.is(await authz.check(unknown.token), 503);
    cluster.service.child.kill('SIGCONT');
    await waitFor('known again', async () => (await authz.check(unknown.token)) === 200);
    await cluster.service.stop('SIGKILL');
    t.is(await authz.check(known.token), 200);
    await waitFor('the watch is known to be lost', async () => (await authz.metric('kura_authz_pod_watch_healthy')) === 0);
    const lines = authz.service
      .output()
      .split('\n')
      .filter((line) => line.includes('known tokens stay valid'));
    t.true(lines.length >= 1 && lines.length <= 2, `${lines.length} lines`);
  },
);

test.serial('new signing keys of the cluster are accepted', async (t) => {
  const [first, second] = [await startCluster(t), await startCluster(t)];
  const authz = await startAuthz(t, first.kubeconfig);
  const { token } = await first.run('p');
  t.is(await authz.check(token), 200);
  await first.service.stop('SIGKILL');
  await writeFile(`${first.directory}/sa.key`, second.signingKey);
  const again = await startFakeKubernetesOn(t, first.directory, { KURA_KUBERNETES_LISTEN: first.service.listening.https as string });
  const core = again.client.api(CoreV1Api);
  const held = await core.readNamespacedPod({ namespace: 'vision', name: 'p' });
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace: 'vision',
    name: 'trainer',
    body: {
      spec: {
        audiences: ['kura'],
        boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'p', uid: held.metadata?.uid as string },
      },
    },
  });
  await waitFor('the new key is known', async () => (await authz.check(status?.token as string)) === 200);
});

test.serial('the token of a deleted or recreated ServiceAccount is refused', async (t) => {
  const cluster = await startCluster(t);
  const authz = await startAuthz(t, cluster.kubeconfig);
  const core = cluster.client.api(CoreV1Api);
  const { token } = await cluster.run('p');
  await core.deleteNamespacedServiceAccount({ namespace: 'vision', name: 'trainer' });
  t.is(await authz.check(token), 401);
  await core.createNamespacedServiceAccount({ namespace: 'vision', body: { metadata: { name: 'trainer' } } });
  const second = await startAuthz(t, cluster.kubeconfig);
  t.is(await second.check(token), 401, 'the account has another uid');
  t.is(await second.check(await cluster.tokenOf('p')), 200);
});

test.serial('the token of a finished Pod is valid while the API accepts it, and is reviewed every 10 s', async (t) => {
  const cluster = await startCluster(t);
  const authz = await startAuthz(t, cluster.kubeconfig, { KURA_AUTHZ_RESULT_AGE: '500ms' });
  const { token } = await cluster.run('p');
  await waitFor('the watch holds the Pod', async () => {
    const reviews = await authz.metric('kura_authz_reviews_total');
    t.is(await authz.check(token), 200);
    return (await authz.metric('kura_authz_reviews_total')) === reviews;
  });
  const core = cluster.client.api(CoreV1Api);
  await core.patchNamespacedPodStatus(
    { namespace: 'vision', name: 'p', body: { status: { phase: 'Succeeded' } } },
    setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
  );
  const before = await authz.metric('kura_authz_reviews_total');
  await waitFor('its result no longer lives long', async () => {
    t.is(await authz.check(token), 200);
    return (await authz.metric('kura_authz_reviews_total')) > before + 2;
  });
});

test.serial('two authz decide alike, before and after a change of the policy', async (t) => {
  const cluster = await startCluster(t);
  const both = await Promise.all([startAuthz(t, cluster.kubeconfig), startAuthz(t, cluster.kubeconfig)]);
  const { token } = await cluster.run('p');
  const presented = [token, await cluster.tokenOf(undefined), await cluster.tokenOf('p', { audience: 'other' }), 'garbage'];
  const decideAll = async (authz: (typeof both)[0]): Promise<number[]> => {
    const found: number[] = [];
    for (const one of presented) {
      for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'POST']) {
        for (const key of ['vision/x', 'other/x', '_shared/imagenet/x', 'vision', '../x']) {
          found.push(await authz.check(one, { method, target: `/objects/${key}` }));
        }
      }
    }
    return found;
  };
  const [first, second] = await Promise.all(both.map(decideAll));
  t.deepEqual(first, second);
  t.true(new Set(first).size >= 4, 'allows and refusals of several kinds');
  const text =
    'apiVersion: kura/v1\nkind: AccessPolicy\nmode: enforce\ndefault: allow\nrules: [{name: d, effect: deny, subjects: [{namespaces: ["*"]}], verbs: [PUT], keys: [vision/]}]\n';
  const body = { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': text } };
  await cluster.client.api(CoreV1Api).replaceNamespacedConfigMap({ namespace: 'kura-system', name: 'kura-policy', body });
  for (const authz of both) {
    await waitFor('the change is in force', async () => (await authz.check(token, { method: 'PUT' })) === 403, { withinMs: 1_000 });
  }
  const [third, fourth] = await Promise.all(both.map(decideAll));
  t.deepEqual(third, fourth);
  t.notDeepEqual(third, first);
});

test.serial('a Pod counts as running until 60 s after its deletionTimestamp, also when that changes', async (t) => {
  const cluster = await startCluster(t);
  const core = cluster.client.api(CoreV1Api);
  const made = await core.createNamespacedPod({ namespace: 'vision', body: pod('p', { node: 'node-a' }) });
  const uid = made.metadata?.uid as string;
  let offsetMs = 0;
  const pods = watchPods({
    client: cluster.client,
    log: createLogger({ service: 'test', level: 'error' }),
    now: () => Date.now() + offsetMs,
  });
  t.teardown(() => pods.close());
  const isRunning = (seconds: number, of = uid): boolean => {
    offsetMs = seconds * 1_000;
    return pods.isRunning({ namespace: 'vision', name: 'p', uid: of });
  };
  await waitFor('the watch holds the Pod', () => pods.healthy && isRunning(0));
  t.true(isRunning(1_000_000));
  t.false(isRunning(0, 'another uid'));
  await core.deleteNamespacedPod({ namespace: 'vision', name: 'p', gracePeriodSeconds: 300 });
  await waitFor('the deletion is known', () => !isRunning(1_000));
  t.true(isRunning(350));
  t.false(isRunning(361));
  await core.deleteNamespacedPod({ namespace: 'vision', name: 'p', gracePeriodSeconds: 30 });
  await waitFor('it was moved', () => !isRunning(350));
  t.true(isRunning(80));
  t.false(isRunning(91));
});

test.serial('ConfigMap kura-origins gives the terms of its origins, and without it there are none', async (t) => {
  const cluster = await startCluster(t);
  const core = cluster.client.api(CoreV1Api);
  const authz = await startAuthz(t, cluster.kubeconfig);
  const { token } = await cluster.run('p');
  const fillOf = async (target: string) => /; fill=[^;]*/.exec((await authz.terms(token, target)) ?? '')?.[0];
  t.is(await fillOf('/through/vision/data/x'), undefined);
  await waitFor('the watch', async () => (await authz.metric('kura_authz_origins_watch_healthy')) === 1);
  const put = (text: string) => ({ metadata: { name: 'kura-origins' }, data: { 'origins.yaml': text } });
  const good = 'apiVersion: kura/v1\nkind: Origins\norigins: [{ name: nfs, prefix: vision/data/, file: { path: /data } }]\n';
  await core.createNamespacedConfigMap({ namespace: 'kura-system', body: put(good) });
  await waitFor('the origin', async () => (await fillOf('/through/vision/data/x')) === '; fill=nfs');
  t.is(await fillOf('/objects/vision/data/x'), undefined);
  t.is(await fillOf('/through/vision/x'), undefined);
  t.is(await authz.metric('kura_authz_origins_info'), 1);
  await core.replaceNamespacedConfigMap({ namespace: 'kura-system', name: 'kura-origins', body: put('kind: Nothing\n') });
  await waitFor('the rejection', () => authz.service.output().includes('the origins document is rejected'));
  t.is(await fillOf('/through/vision/data/x'), '; fill=nfs');
  await core.deleteNamespacedConfigMap({ namespace: 'kura-system', name: 'kura-origins' });
  await waitFor('no origin', async () => (await fillOf('/through/vision/data/x')) === undefined);
  const { items } = await core.listNamespacedEvent({ namespace: 'kura-system' });
  t.deepEqual(
    items.filter(({ involvedObject }) => involvedObject.name === 'kura-origins'),
    [],
  );
});
