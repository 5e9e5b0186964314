/** The reflector before an API that dies in every way. */
import { writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import path from 'node:path';
import type { KubernetesObject } from '@kubernetes/client-node';
import test, { type ExecutionContext } from 'ava';
import { connectKubernetes } from '../../services/shared/kubernetes.ts';
import { listen } from '../../services/shared/listen.ts';
import { createLogger } from '../../services/shared/log.ts';
import { Reflector } from '../../services/shared/reflector.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

type Handler = (response: ServerResponse, query: URLSearchParams) => void;

function pod(name: string, { uid = name, version = '1' } = {}): KubernetesObject {
  return { metadata: { namespace: 'vision', name, uid, resourceVersion: version } };
}

/** An API whose responses the test replaces. A watch without data ends after `silenceMs`. */
async function setting(t: ExecutionContext, { silenceMs = 300 } = {}) {
  const folder = await temporaryFolder(t);
  const watches: { response: ServerResponse; version: string | null }[] = [];
  const api = {
    items: [pod('a')],
    version: '5',
    lists: 0,
    list: undefined as Handler | undefined,
    watch: undefined as Handler | undefined,
  };
  const server = createServer((request, response) => {
    const query = new URL(request.url ?? '', 'http://api').searchParams;
    if (query.has('watch')) {
      if (api.watch !== undefined) return api.watch(response, query);
      watches.push({ response, version: query.get('resourceVersion') });
      response.writeHead(200).flushHeaders();
      return;
    }
    api.lists++;
    if (api.list !== undefined) return api.list(response, query);
    response.end(JSON.stringify({ metadata: { resourceVersion: api.version }, items: api.items }));
  });
  const { address, close } = await listen(server, { host: '127.0.0.1', port: 0 });
  const kubeconfig = path.join(folder, 'kubeconfig');
  const clusters = [{ name: 'c', cluster: { server: `http://${address}`, 'insecure-skip-tls-verify': true } }];
  const contexts = [{ name: 'x', context: { cluster: 'c', user: 'u' } }];
  await writeFile(kubeconfig, JSON.stringify({ clusters, contexts, users: [{ name: 'u', user: {} }], 'current-context': 'x' }));
  const client = connectKubernetes({ kubeconfig });
  const changes: string[] = [];
  const reflector = new Reflector({
    client,
    path: '/api/v1/pods',
    silenceMs,
    log: createLogger({ service: 'test', level: 'warn' }),
    onChange: ({ type, object }) => changes.push(`${type} ${object.metadata?.name}/${object.metadata?.uid}`),
  });
  t.teardown(async () => {
    await reflector.close();
    await client.close();
    server.closeAllConnections();
    await close();
  });
  const watching = () => waitFor('a watch is open', () => reflector.healthy && watches.at(-1));
  const send = (type: string, object: object): void => {
    watches.at(-1)?.response.write(`${JSON.stringify({ type, object })}\n`);
  };
  return { api, reflector, changes, watches, watching, send };
}

test('a list that returns 500 is retried until it succeeds', async (t) => {
  const { api, reflector, changes, watching } = await setting(t);
  let failures = 0;
  api.list = (response) => {
    if (++failures === 2) api.list = undefined;
    response.writeHead(500).end();
  };
  await watching();
  t.true(reflector.synced);
  t.deepEqual(changes, ['added a/a']);
});

const deaths: Record<string, (s: Awaited<ReturnType<typeof setting>>) => void> = {
  'a reset': ({ watches }) => watches.at(-1)?.response.destroy(),
  'an ERROR event 410': ({ send }) => send('ERROR', { kind: 'Status', code: 410, message: 'too old resource version' }),
  'an ERROR event 500': ({ send }) => send('ERROR', { kind: 'Status', code: 500, message: 'etcd' }),
  silence: () => undefined,
  'half a line and a reset': ({ watches }) => {
    watches.at(-1)?.response.write('{"type":"DELETED","object":{"metadata":{"na');
    setTimeout(() => watches.at(-1)?.response.destroy(), 20);
  },
  'a line that is no JSON': ({ watches }) => watches.at(-1)?.response.write('<html>\n'),
};
for (const [death, kill] of Object.entries(deaths)) {
  test(`after a watch that ends by ${death}, a list reports only the differences`, async (t) => {
    const all = await setting(t);
    const { api, reflector, changes, watches, watching } = all;
    await watching();
    const before = watches.length;
    api.items = [pod('a'), pod('b')];
    kill(all);
    await waitFor('b is known', () => reflector.get('vision/b'));
    await waitFor('watched again', () => watches.length > before && reflector.healthy);
    t.deepEqual(changes, ['added a/a', 'added b/b']);
  });
}

for (const status of [410, 500, 403]) {
  test(`a watch that returns ${status} is unhealthy, keeps the known objects and recovers`, async (t) => {
    const { api, reflector, changes, watches, watching } = await setting(t);
    await watching();
    let refused = 0;
    api.watch = (response) => {
      if (++refused === 2) api.watch = undefined;
      response.writeHead(status).end('{}');
    };
    watches.at(-1)?.response.destroy();
    await waitFor('refused', () => refused > 0);
    t.truthy(reflector.get('vision/a'));
    await waitFor('watched again', () => watches.length === 2 && reflector.healthy);
    t.deepEqual(changes, ['added a/a']);
  });
}

test('after a reset it lists again and watches from that version, even an older one of a restored API', async (t) => {
  const { api, changes, watches, watching, send } = await setting(t);
  await watching();
  send('ADDED', pod('future', { version: '900' }));
  await waitFor('the future is known', () => changes.includes('added future/future'));
  api.version = '3';
  watches.at(-1)?.response.destroy();
  await waitFor('watched from the restored version', () => watches.length === 2);
  t.is(watches.at(-1)?.version, '3');
  t.true(changes.includes('deleted future/future'));
});

test('a name with a new uid is a deletion and an addition, by event and by list', async (t) => {
  const { api, changes, watches, watching, send } = await setting(t);
  await watching();
  send('MODIFIED', pod('a', { uid: 'a2', version: '6' }));
  await waitFor('replaced', () => changes.length === 3);
  api.items = [pod('a', { uid: 'a3', version: '9' })];
  watches.at(-1)?.response.destroy();
  await waitFor('replaced by the list', () => changes.length === 5);
  t.deepEqual(changes, ['added a/a', 'deleted a/a', 'added a/a2', 'deleted a/a2', 'added a/a3']);
});

test('bookmarks keep a watch alive and advance its version, and the next watch starts from there', async (t) => {
  const { api, watches, watching, send } = await setting(t, { silenceMs: 60_000 });
  await watching();
  for (const version of ['6', '7', '8']) send('BOOKMARK', { metadata: { resourceVersion: version } });
  await new Promise((resolve) => setImmediate(resolve));
  watches.at(-1)?.response.end();
  await waitFor('watched again', () => watches.length === 2);
  t.is(watches.at(-1)?.version, '8');
  t.is(api.lists, 1);
});
