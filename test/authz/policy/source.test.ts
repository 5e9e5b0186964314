/** The policy of a running authz with the fake Kubernetes API: what a changed, broken, deleted or absent ConfigMap means for requests. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoreV1Api } from '@kubernetes/client-node';
import test, { type ExecutionContext } from 'ava';
import type { Value__Output } from '../../../proto/generated/google/protobuf/Value.ts';
import { loadEnvoyProtos } from '../../../proto/load.ts';
import { compileText } from '../../../services/authz/policy/policy-text.ts';
import { PolicySource } from '../../../services/authz/policy/source.ts';
import type { KubernetesClient } from '../../../services/shared/kubernetes.ts';
import { createLogger } from '../../../services/shared/log.ts';
import { type FakeKubernetes, pod, startFakeKubernetes } from '../../fake-kubernetes/fake-kubernetes.ts';
import { type Service, startService } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';

const system = 'kura-system';
const head = 'apiVersion: kura/v1\nkind: AccessPolicy\ndefault: deny\n';
const own = `${head}mode: enforce\nrules:\n- { name: own, subjects: [{ namespaces: ["*"] }], verbs: [GET, PUT], keys: ["{namespace}/"] }\n`;
const closed = `${head}mode: enforce\nrules: []\n`;
const dryRun = `${head}mode: dryRun\nrules: []\n`;
const limited = own.replace('rules:', 'limits: { requestsPerSecond: 3 }\nrules:');
const labelled = `${head}mode: enforce\nlimits: { maxObjectBytes: 1Ki, share: 0.5 }\nrules:\n- { name: team, subjects: [{ namespaceSelector: { matchLabels: { team: vision } } }], verbs: [GET, PUT], keys: [""] }\n`;

/** The grant of the last allow. */
let grant: Record<string, Value__Output> | undefined;

interface Setting {
  readonly fake: FakeKubernetes;
  readonly start: (
    environment?: Record<string, string>,
  ) => Promise<{ authz: Service; check: (target: string, headers?: Record<string, string>) => Promise<string> }>;
}

async function setting(t: ExecutionContext): Promise<Setting> {
  const fake = await startFakeKubernetes(t);
  const core = fake.client.api(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: system } } });
  await core.createNamespacedServiceAccount({ namespace: 'vision', body: { metadata: { name: 'trainer' } } });
  const { metadata } = await core.createNamespacedPod({ namespace: 'vision', body: pod('p') });
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: 'p', uid: String(metadata?.uid) };
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace: 'vision',
    name: 'trainer',
    body: { spec: { audiences: ['kura'], expirationSeconds: 3_600, boundObjectRef } },
  });
  const socket = path.join(fake.directory, 'authz.sock');
  const { Authorization } = loadEnvoyProtos().envoy.service.auth.v3;
  const start = async (environment: Record<string, string> = {}) => {
    const authz = await startService('authz', {
      KURA_AUTHZ_LISTEN: `unix:${socket}`,
      KURA_AUTHZ_METRICS_LISTEN: '127.0.0.1:0',
      KURA_AUTHZ_KUBECONFIG: fake.kubeconfig,
      KURA_AUTHZ_CREDENTIAL_FILE: 'off',
      KURA_AUTHZ_POLICY_FILE: path.join(fake.directory, 'last-good.yaml'),
      ...environment,
    });
    const client = new Authorization(`unix:${socket}`, credentials.createInsecure());
    t.teardown(async () => {
      client.close();
      await authz.stop('SIGKILL');
    });
    /** `allow`, or the code of the denial. */
    const check = (target: string, headers: Record<string, string> = {}): Promise<string> =>
      new Promise((resolve, reject) => {
        const http = { method: 'PUT', path: `/objects/${target}`, headers: { authorization: `Bearer ${status?.token}`, ...headers } };
        client.Check({ attributes: { request: { http } } }, (error, response) => {
          if (!response) reject(error);
          else if (response.denied_response) resolve((JSON.parse(response.denied_response.body ?? '{}') as { code: string }).code);
          else {
            grant = response.dynamic_metadata?.fields?.grant?.structValue?.fields;
            resolve(['allow', ...(response.ok_response?.headers ?? []).map(({ header }) => `${header?.key}=${header?.value}`)].join(' '));
          }
        });
      });
    return { authz, check };
  };
  return { fake, start };
}

async function apply(client: KubernetesClient, text: string, next?: string): Promise<void> {
  const core = client.api(CoreV1Api);
  const body = {
    metadata: { name: 'kura-policy' },
    data: { 'policy.yaml': text, ...(next === undefined ? {} : { 'policy.next.yaml': next }) },
  };
  const exists = await core.readNamespacedConfigMap({ namespace: system, name: 'kura-policy' }).then(
    () => true,
    () => false,
  );
  if (exists) await core.replaceNamespacedConfigMap({ namespace: system, name: 'kura-policy', body });
  else await core.createNamespacedConfigMap({ namespace: system, body });
}

async function eventReasons(client: KubernetesClient): Promise<string[]> {
  const { items } = await client.api(CoreV1Api).listNamespacedEvent({ namespace: system });
  return items.map(({ reason }) => String(reason)).sort();
}

/** As `kubectl describe` shows them: the oldest first, by whole seconds. */
async function described(client: KubernetesClient): Promise<string[]> {
  const { items } = await client.api(CoreV1Api).listNamespacedEvent({ namespace: system });
  const { metadata } = await client.api(CoreV1Api).readNamespacedConfigMap({ namespace: system, name: 'kura-policy' });
  return items
    .filter(({ involvedObject }) => involvedObject.uid === metadata?.uid)
    .sort((a, b) => seconds(a.lastTimestamp) - seconds(b.lastTimestamp))
    .map(({ type, reason, message, count }) => `${type} ${reason} ${count} ${message}`);
}

function seconds(time: Date | undefined): number {
  return Math.floor(Number(new Date(time ?? 0)) / 1000);
}

test.serial('before the first policy authz is not ready and returns 503 to every request', async (t) => {
  const { fake, start } = await setting(t);
  const { authz, check } = await start();
  const ready = async (): Promise<number> => (await fetch(`http://${authz.listening.metrics}/readyz`)).status;
  t.is(await ready(), 503);
  t.is(await check('vision/x'), 'policy-unavailable');
  await apply(fake.client, own);
  await waitFor('the policy is in force', async () => (await check('vision/x')).startsWith('allow'));
  t.is(await ready(), 200);
  t.is(await check('nlp/x'), 'forbidden');
});

test.serial('a changed policy is in force immediately; an invalid or deleted one keeps the previous one, with an Event', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, own);
  const { authz, check } = await start();
  await waitFor('the policy is in force', async () => (await check('vision/x')).startsWith('allow'));
  await apply(fake.client, closed);
  await waitFor('the change is in force', async () => (await check('vision/x')) === 'forbidden');
  await apply(fake.client, own);
  await waitFor('the change is in force', async () => (await check('vision/x')).startsWith('allow'));

  await apply(fake.client, own.replace('rules:', 'rulez:'));
  await waitFor('the Event', async () => (await eventReasons(fake.client)).includes('PolicyRejected'));
  t.regex(authz.output(), /line 5, column 1: the policy has no field \\"rulez\\"/);
  t.true((await check('vision/x')).startsWith('allow'));
  await fake.client.api(CoreV1Api).deleteNamespacedConfigMap({ namespace: system, name: 'kura-policy' });
  await waitFor('the log line', () => authz.output().includes('the policy was deleted'));
  t.true((await check('vision/x')).startsWith('allow'));
  t.deepEqual([...new Set(await eventReasons(fake.client))], ['PolicyAccepted', 'PolicyRejected']);
  const metrics = await (await fetch(`http://${authz.listening.metrics}/metrics`)).text();
  t.regex(metrics, /^kura_authz_policy_rejected 1$/m);
});

test.serial('after a restart the last valid policy is in force, whatever the ConfigMap contains', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, own);
  const first = await start();
  await waitFor('the policy is in force', async () => (await first.check('vision/x')).startsWith('allow'));
  await waitFor('it is kept', () => first.authz.output().includes('is in force'));
  await first.authz.stop();
  await apply(fake.client, 'nonsense: true\n');
  const second = await start();
  await waitFor('the last good one is in force', async () => (await second.check('vision/x')).startsWith('allow'));
  t.is(await second.check('nlp/x'), 'forbidden');
});

test.serial('after a restart without the API the kept policy is in force, unless a rule needs the labels of namespaces', async (t) => {
  const { fake, start } = await setting(t);
  const away = { KURA_AUTHZ_KUBECONFIG: path.join(fake.directory, 'away.kubeconfig') };
  const config = await readFile(fake.kubeconfig, 'utf8');
  await writeFile(away.KURA_AUTHZ_KUBECONFIG, config.replace(/server: .*/, 'server: https://127.0.0.1:1'));
  for (const [text, status, code] of [
    [own, 200, 'identity-unavailable'],
    [labelled, 503, 'identity-unavailable'],
  ] as const) {
    await apply(fake.client, text);
    const first = await start();
    await waitFor('the policy is in force', () => first.authz.output().includes('the policy is in force'));
    await first.authz.stop();
    const second = await start(away);
    t.is((await fetch(`http://${second.authz.listening.metrics}/readyz`)).status, status);
    t.is(await second.check('vision/x'), code);
    await second.authz.stop();
  }
});

test.serial('a dry run allows every request and counts the ones that it would deny', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, dryRun);
  const { authz, check } = await start();
  await waitFor('the policy is in force', async () => (await check('nlp/x')).startsWith('allow'));
  const metrics = await (await fetch(`http://${authz.listening.metrics}/metrics`)).text();
  t.regex(metrics, /^kura_authz_checks_total\{decision="would-deny",reason="(reviewed|remembered)",namespace="vision"\} 1$/m);
});

test.serial('a namespace above its rate gets 429 and no grant, and is allowed again within a second', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, limited);
  const { check } = await start();
  await waitFor('the policy is in force', async () => (await check('vision/x')).startsWith('allow'));
  // A ticket would be good for any number of requests.
  const allowed = await waitFor('it is allowed', async () => {
    const answer = await check('vision/x');
    return answer.startsWith('allow') && answer;
  });
  t.regex(allowed, /; direct=no; exp=/);
  const answers = await Promise.all(Array.from({ length: 40 }, () => check('vision/x')));
  t.true(answers.filter((answer) => answer === 'too-many-requests').length > 20, answers.join('\n'));
  t.is(await check('nlp/x'), 'forbidden');
  await waitFor('it is allowed again', async () => (await check('vision/x')).startsWith('allow'));
  t.is(grant, undefined);
});

test.serial('changed labels of a namespace take effect immediately, and limits reach the shard', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, labelled);
  const { check } = await start();
  await waitFor('the policy is in force', async () => (await check('any/x')) === 'forbidden');
  const core = fake.client.api(CoreV1Api);
  const namespace = await core.readNamespace({ name: 'vision' });
  await core.replaceNamespace({
    name: 'vision',
    body: { ...namespace, metadata: { ...namespace.metadata, labels: { ...namespace.metadata?.labels, team: 'vision' } } },
  });
  const allowed = await waitFor('the label counts', async () => {
    const answer = await check('any/x');
    return answer.startsWith('allow') && answer;
  });
  t.regex(allowed, /x-kura-terms=max-object-bytes=1024; max-share=0\.5; exp=\d+$/);
  t.is(await check('any/x', { 'content-length': '1025' }), 'too-large');
});

test.serial('an allow carries a grant with what Envoy may reuse, for 5 s', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, own);
  const { check } = await start();
  await waitFor('the policy is in force', async () => (await check('vision/x')).startsWith('allow'));
  t.regex(grant?.caller?.stringValue ?? '', /^vision\/trainer\/[^/]+$/);
  t.regex(grant?.terms?.stringValue ?? '', new RegExp(`^max-object-bytes=${64 * 2 ** 30}; exp=\\d+$`));
  t.is(grant?.seconds?.numberValue, 5);
  const allowed = grant?.allowed?.structValue?.fields ?? {};
  t.deepEqual(
    allowed.PUT?.listValue?.values?.map(({ stringValue }) => stringValue),
    ['vision/'],
  );
  t.deepEqual(allowed.DELETE?.listValue?.values ?? [], []);
});

test.serial('the next policy decides nothing, counts its differences, and reduces grants to what both policies allow', async (t) => {
  const { fake, start } = await setting(t);
  await apply(fake.client, own, own.replace('"{namespace}/"', '"{namespace}/a/"'));
  const { authz, check } = await start();
  await waitFor('the policy is in force', async () => (await check('vision/a/x')).startsWith('allow'));
  t.deepEqual(
    grant?.allowed?.structValue?.fields?.PUT?.listValue?.values?.map(({ stringValue }) => stringValue),
    ['vision/a/'],
  );
  t.true((await check('vision/b/x')).startsWith('allow'));
  t.is(await check('nlp/x'), 'forbidden');
  const metrics = await (await fetch(`http://${authz.listening.metrics}/metrics`)).text();
  t.regex(metrics, /^kura_authz_shadow_differences_total\{next="deny",namespace="vision"\} 1$/m);
  await apply(fake.client, own, 'nonsense: true\n');
  await waitFor('the log line', () => authz.output().includes('the next policy is rejected'));
  t.true((await check('vision/b/x')).startsWith('allow'));
});

test.serial('a fault while compiling rejects the document with an Event, and the watch stays open', async (t) => {
  const fake = await startFakeKubernetes(t);
  await fake.client.api(CoreV1Api).createNamespace({ body: { metadata: { name: system } } });
  await apply(fake.client, own, own);
  const source = new PolicySource({
    client: fake.client,
    namespace: system,
    lastGoodFile: undefined,
    log: createLogger({ service: 'test', level: 'silent' }),
    compile: (text) => {
      if (text.includes('limits')) return compileText(text);
      throw new RangeError('Maximum call stack size exceeded');
    },
  });
  t.teardown(() => source.close());
  await waitFor('the Event', async () => (await eventReasons(fake.client)).includes('PolicyRejected'));
  t.is(source.rejected, 1);
  t.is(source.current, undefined);
  t.regex(source.missing, /the policy is rejected: line 1, column 1: cannot compile the policy: Maximum call stack/);
  await apply(fake.client, limited);
  await waitFor('the good policy is in force', () => source.current !== undefined);
});

test.serial('the Events end with the present state after each change, and count repetitions', async (t) => {
  const { fake, start } = await setting(t);
  const bad = own.replace('rules:', 'rulez:');
  await apply(fake.client, own);
  const { authz } = await start();
  const last = async (event: RegExp): Promise<string> =>
    await waitFor(`the last Event is ${event}`, async () => {
      const found = (await described(fake.client)).at(-1) ?? '';
      return event.test(found) && found;
    });
  const ownEvent = await last(
    /^Normal PolicyAccepted 1 policy [0-9a-f]{12} is in force, with warnings: line 6, column 3: rule own: no test/,
  );
  await apply(fake.client, limited);
  await last(/^Normal PolicyAccepted 1 /);
  await apply(fake.client, bad);
  await last(/^Warning PolicyRejected 1 /);
  await apply(fake.client, limited);
  await last(/^Normal PolicyAccepted 2 /);
  await apply(fake.client, bad);
  await last(/^Warning PolicyRejected 2 /);
  await apply(fake.client, closed);
  await last(/^Normal PolicyAccepted 1 /);
  await apply(fake.client, own);
  t.is(await last(/^Normal PolicyAccepted 2 /), ownEvent.replace('Accepted 1', 'Accepted 2'));
  const [, hash = ''] = /policy (\S+) is in force/.exec(ownEvent) ?? [];
  const metrics = await (await fetch(`http://${authz.listening.metrics}/metrics`)).text();
  t.regex(metrics, new RegExp(`^kura_authz_policy_info\\{hash="${hash}"\\} 1$`, 'm'));

  await fake.client.api(CoreV1Api).deleteNamespacedConfigMap({ namespace: system, name: 'kura-policy' });
  await waitFor('the log line', () => authz.output().includes('the policy was deleted'));
  await apply(fake.client, own, bad);
  await last(/^Warning NextPolicyRejected 1 there is no next policy: line 5, column 1/);
  t.regex((await described(fake.client)).at(-2) ?? '', /^Normal PolicyAccepted 3 /);
  await apply(fake.client, own, closed);
  await last(/^Normal NextPolicyAccepted 1 next policy [0-9a-f]{12} is evaluated but not enforced$/);
  await apply(fake.client, own);
  await last(/^Normal NextPolicyRemoved 1 next policy [0-9a-f]{12} was removed$/);
});
