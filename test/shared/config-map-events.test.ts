import { ApiException, type CoreV1Event } from '@kubernetes/client-node';
import test from 'ava';
import { ConfigMapEvents } from '../../services/shared/config-map-events.ts';
import type { KubernetesClient } from '../../services/shared/kubernetes.ts';
import type { Logger } from '../../services/shared/log.ts';
import { waitFor } from '../support/wait.ts';

const configMap = { metadata: { name: 'kura-policy', namespace: 'kura-system', uid: 'u' } };
const accepted = { reason: 'PolicyAccepted', hash: 'a', message: 'm' } as const;

/** An API whose answers the test gives, and the lines that are logged. */
function eventsWith(api: { create: () => Promise<unknown>; patch?: (body: object) => Promise<unknown> }) {
  const logged: string[] = [];
  const log = { warn: ({ reason }: { reason: string }, text: string) => logged.push(`${text}: ${reason}`) } as unknown as Logger;
  const core = {
    createNamespacedEvent: api.create,
    patchNamespacedEvent: ({ body }: { body: object }) => api.patch?.(body) ?? Promise.reject(new Error('no patch')),
  };
  const client = { api: () => core } as unknown as KubernetesClient;
  return { events: new ConfigMapEvents({ client, component: 'kura-authz', log }), logged };
}

test('an Event that the API does not take is logged, and the next one is written', async (t) => {
  let calls = 0;
  const { events, logged } = eventsWith({ create: () => (++calls === 1 ? Promise.reject(new Error('ECONNREFUSED')) : Promise.resolve()) });
  events.report(configMap, accepted);
  events.report(configMap, accepted);
  await waitFor('the second Event', () => calls === 2);
  t.deepEqual(logged, ['cannot write the Event: ECONNREFUSED']);
});

test('a repetition updates time, message and count, and a later report has a later second', async (t) => {
  const patches: Partial<CoreV1Event>[] = [];
  const { events, logged } = eventsWith({
    create: () => Promise.reject(new ApiException(409, 'exists', undefined, {})),
    patch: (body) => {
      patches.push(body);
      return Promise.resolve({ count: 4 });
    },
  });
  events.report(configMap, accepted);
  events.report(configMap, { ...accepted, message: 'x'.repeat(2_000) });
  await waitFor('both are written', () => patches.length === 4);
  const [first, counted, second] = patches;
  t.deepEqual(counted, { count: 5 });
  t.is(first?.message, 'm');
  t.is(second?.message?.length, 1_000);
  t.like(first?.involvedObject, { uid: 'u', name: 'kura-policy' });
  t.true(Number(second?.lastTimestamp) - Number(first?.lastTimestamp) >= 1_000);
  t.is(Number(first?.lastTimestamp) % 1_000, 0);
  t.deepEqual(logged, []);
});

test('more than 100 Events that wait for the API are not kept', (t) => {
  const { events, logged } = eventsWith({ create: () => new Promise(() => undefined) });
  for (let count = 0; count < 102; count += 1) events.report(configMap, accepted);
  t.deepEqual(logged, Array(2).fill('cannot write the Event: 100 Events wait for the Kubernetes API'));
});
