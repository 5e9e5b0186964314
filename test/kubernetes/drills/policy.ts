import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { parse, stringify } from 'yaml';
import { readMetric } from '../../support/metrics.ts';
import { waitFor } from '../../support/wait.ts';
import { type Drill, secondsSince, system } from '../support/drill.ts';
import { grantSeconds, slackSeconds } from './tokens.ts';

const shipped = path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'base', 'policy.yaml');
const maps = `/api/v1/namespaces/${system}/configmaps`;

/** A policy that changes. */
export function policyDrills(opened: () => Drill): void {
  test.serial('an edited policy survives an upgrade, and creating the first policy a second time changes nothing', async (t) => {
    const drill = opened();
    const text = () => drill.kubectl.ok('-n', system, 'get', 'configmap', 'kura-policy', '-o', 'jsonpath={.data.policy\\.yaml}');
    const original = await text();
    const edited = original.replace('maxObjectBytes: 64Gi', 'maxObjectBytes: 32Gi');
    t.not(edited, original);
    const write = (document: string) =>
      drill.kubectl.ok('-n', system, 'patch', 'configmap', 'kura-policy', '-p', JSON.stringify({ data: { 'policy.yaml': document } }));
    await write(edited);
    t.notRegex(await drill.apply(), /kura-policy/);
    t.is(await text(), edited);
    const again = await drill.kubectl.run(
      '-n',
      system,
      'create',
      'configmap',
      'kura-policy',
      '--from-file=policy.yaml=k8s/base/policy.yaml',
    );
    t.regex(again.stderr, /already exists/);
    t.is(await text(), edited);
    await write(original);
  });

  test.serial('a policy is in force at once; a broken or deleted one changes nothing; a restored one is in force again', async (t) => {
    const drill = opened();
    const original = await readFile(shipped, 'utf8');
    const write = (text: string): Promise<unknown> =>
      drill.cluster.ok('PATCH', `${maps}/kura-policy`, {
        body: { data: { 'policy.yaml': text } },
        headers: { 'content-type': 'application/merge-patch+json' },
      });
    const statuses = async (): Promise<Set<number>> => {
      const asked = Array.from({ length: 16 }, () => drill.client.send('GET', 'shared/x', { token: drill.token }));
      return new Set((await Promise.all(asked)).map(({ status }) => status));
    };
    const answers = async (status: number): Promise<boolean> => {
      const seen = await statuses();
      return seen.size === 1 && seen.has(status);
    };
    const metrics = (name: string): Promise<number[]> =>
      Promise.all(drill.addresses().map((address) => readMetric(`http://${address}:9903/metrics`, name)));
    t.true(await answers(403));

    const wider = parse(original) as { rules: object[] };
    wider.rules.push({ name: 'shared', subjects: [{ namespaces: ['vision'] }], verbs: ['GET'], keys: ['shared/'] });
    const widerAt = performance.now();
    await write(stringify(wider));
    await waitFor('every Envoy lets it in', () => answers(404));
    t.log(`what a new rule allows is let in after ${secondsSince(widerAt)}`);

    await write('apiVersion: kura/v1\nkind: AccessPolicy\nrulez: []\n');
    await waitFor('every authz has rejected it', async () =>
      (await metrics('kura_authz_policy_rejected')).every((rejected) => rejected === 1),
    );
    const events = await drill.kubectl.ok('-n', system, 'describe', 'configmap', 'kura-policy');
    t.regex(events, /Warning\s+PolicyRejected.*unknown field.*rulez|Warning\s+PolicyRejected.*rulez/);
    t.true(await answers(404));
    const described = async (): Promise<string> => await drill.kubectl.ok('-n', system, 'describe', 'configmap', 'kura-policy');
    await write(stringify(wider));
    await waitFor('the last Event is about the document before', async () =>
      /Normal\s+PolicyAccepted.* is in force[^\n]*\s*$/.test(await described()),
    );
    await write(original);
    await waitFor('every Envoy refuses it', () => answers(403));
    const hash = createHash('sha256').update(original).digest('hex').slice(0, 12);
    await waitFor('the last Event is about the first document', async () =>
      new RegExp(`Normal\\s+PolicyAccepted.* policy ${hash} is in force\\s*$`).test(await described()),
    );
    await write(stringify(wider));
    await waitFor('every Envoy lets it in', () => answers(404));

    await drill.cluster.ok('DELETE', `${maps}/kura-policy`);
    await waitFor('every authz has seen it', async () => {
      const logs = await Promise.all(drill.kubelet.logs('kura-envoy', 'authz'));
      return logs.every((log) => log.includes('the policy was deleted'));
    });
    t.true(await answers(404));

    const restoredAt = performance.now();
    await drill.cluster.ok('POST', maps, { body: { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': original } } });
    await waitFor('every Envoy refuses it', () => answers(403));
    t.log(`what it no longer allows is refused after ${secondsSince(restoredAt)}`);
    t.true(performance.now() - restoredAt < (1 + grantSeconds + slackSeconds) * 1000);
    // The new ConfigMap has another uid.
    await waitFor('the Event is about the new ConfigMap', async () =>
      new RegExp(`PolicyAccepted.* policy ${hash} is in`).test(await described()),
    );
  });
}
