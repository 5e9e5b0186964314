import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { brief, type Cluster, patchTypes, pod, take } from './cluster.ts';

const podsOf = (ns: string): string => `/api/v1/namespaces/${ns}/pods`;

/** The events of a watch, their beginning and their end. */
export function watchContract(cluster: () => Cluster): void {
  test.serial('a watch begins after its version and has every change in order', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    await ok('POST', podsOf(ns), { body: pod('before') });
    const { metadata } = await ok('GET', podsOf(ns));
    const events = await watch(`${podsOf(ns)}?watch=true&resourceVersion=${metadata.resourceVersion}`);
    await ok('POST', podsOf(ns), { body: pod('a', { node: 'somewhere' }) });
    await ok('DELETE', `${podsOf(ns)}/a?gracePeriodSeconds=20`);
    await ok('DELETE', `${podsOf(ns)}/a?gracePeriodSeconds=0`);
    const seen: Awaited<ReturnType<typeof take>> = [];
    while (seen.at(-1)?.type !== 'DELETED') seen.push(...(await take(events, 1)));
    // The real API shows a deletion by force as a change first.
    t.deepEqual([...new Set(brief(seen))], ['ADDED a', 'MODIFIED a', 'DELETED a']);
    t.is(seen[0]?.object.kind, 'Pod');
    t.is(seen[0]?.object.apiVersion, 'v1');
    t.is(seen[1]?.object.metadata.deletionGracePeriodSeconds, 20);
    const versions = seen.map(({ object }) => Number(object.metadata.resourceVersion));
    t.deepEqual(
      versions,
      [...new Set(versions)].sort((a, b) => a - b),
    );
  });

  test.serial('a watch without a version, or from 0, begins with everything', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    await ok('POST', podsOf(ns), { body: pod('b') });
    await ok('POST', podsOf(ns), { body: pod('a') });
    for (const query of ['', '&resourceVersion=0']) {
      t.deepEqual(brief(await take(await watch(`${podsOf(ns)}?watch=true${query}`), 2)), ['ADDED a', 'ADDED b']);
    }
  });

  test.serial('an object that begins to match is added; one that no longer matches is deleted, as it was before', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    const { metadata } = await ok('GET', podsOf(ns));
    const selectors = `labelSelector=app%3Dx&fieldSelector=${encodeURIComponent('status.phase!=Succeeded,status.phase!=Failed')}`;
    const events = await watch(`${podsOf(ns)}?watch=true&resourceVersion=${metadata.resourceVersion}&${selectors}`);
    const headers = { 'content-type': patchTypes.merge };
    const phase = (name: string, value: string) =>
      ok('PATCH', `${podsOf(ns)}/${name}/status`, { body: { status: { phase: value } }, headers });
    await ok('POST', podsOf(ns), { body: pod('other', { labels: { app: 'y' } }) });
    await ok('POST', podsOf(ns), { body: pod('a', { labels: { app: 'x' } }) });
    await phase('a', 'Running');
    const ended = await phase('a', 'Succeeded');
    await phase('a', 'Running');
    await ok('PATCH', `${podsOf(ns)}/a`, { body: { metadata: { labels: { app: 'z' } } }, headers });
    await ok('DELETE', `${podsOf(ns)}/a`);
    await ok('POST', podsOf(ns), { body: pod('last', { labels: { app: 'x' } }) });
    const seen = await take(events, 6);
    t.deepEqual(brief(seen), ['ADDED a', 'MODIFIED a', 'DELETED a', 'ADDED a', 'DELETED a', 'ADDED last']);
    t.is(seen[2]?.object.status.phase, 'Running');
    t.is(seen[2]?.object.metadata.resourceVersion, ended.metadata.resourceVersion);
    t.is(seen[4]?.object.metadata.labels.app, 'x');
  });

  test.serial('Pods can be watched by metadata alone, one object by its name', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    await ok('POST', podsOf(ns), { body: pod('a') });
    await ok('POST', podsOf(ns), { body: pod('b') });
    const accept = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
    const events = await watch(`${podsOf(ns)}?watch=true&fieldSelector=metadata.name%3Db&allowWatchBookmarks=true`, { accept });
    const seen = await take(events, 2);
    t.deepEqual(brief(seen), ['ADDED b', 'BOOKMARK']);
    for (const { object } of seen)
      t.deepEqual([object.kind, object.apiVersion, object.spec], ['PartialObjectMetadata', 'meta.k8s.io/v1', undefined]);
  });

  test.serial('a watch of all namespaces has the EndpointSlices of a Service as they change', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    const path = `/apis/discovery.k8s.io/v1/namespaces/${ns}/endpointslices`;
    const { metadata } = await ok('GET', path);
    const query = `watch=true&resourceVersion=${metadata.resourceVersion}&labelSelector=${encodeURIComponent(`kubernetes.io/service-name=kura-${ns}`)}`;
    const events = await watch(`/apis/discovery.k8s.io/v1/endpointslices?${query}`);
    const labels = { 'kubernetes.io/service-name': `kura-${ns}` };
    const endpoint = {
      addresses: ['10.0.0.10'],
      conditions: { ready: true, serving: true, terminating: false },
      hostname: 'kura-cache-0',
      nodeName: 'node-a',
      zone: 'zone-a',
      targetRef: { kind: 'Pod', namespace: ns, name: 'kura-cache-0', uid: 'u' },
    };
    const slice = {
      metadata: { name: 's', labels },
      addressType: 'IPv4',
      endpoints: [endpoint],
      ports: [{ name: 'shard-0', port: 7000, protocol: 'TCP' }],
    };
    await ok('POST', path, { body: slice });
    await ok('PUT', `${path}/s`, { body: { ...slice, endpoints: [] } });
    await ok('DELETE', `${path}/s`);
    const seen = await take(events, 3);
    t.deepEqual(brief(seen), ['ADDED s', 'MODIFIED s', 'DELETED s']);
    t.deepEqual(seen[0]?.object.endpoints, [endpoint]);
    t.is(seen[0]?.object.apiVersion, 'discovery.k8s.io/v1');
  });

  test.serial('a watch ends without an error when its time is over', async (t) => {
    const { watch, namespace } = cluster();
    const ns = await namespace(t);
    const startedAt = performance.now();
    const events = await watch(`${podsOf(ns)}?watch=true&timeoutSeconds=1`);
    t.true((await events.next()).done);
    t.true(performance.now() - startedAt > 900);
  });

  test.serial('a watch from the future is accepted and silent', async (t) => {
    const { ok, watch, namespace } = cluster();
    const ns = await namespace(t);
    const future = Number((await ok('GET', podsOf(ns))).metadata.resourceVersion) + 1_000_000;
    const events = await watch(`${podsOf(ns)}?watch=true&resourceVersion=${future}&timeoutSeconds=2`);
    await ok('POST', podsOf(ns), { body: pod('a') });
    t.true((await events.next()).done);
  });

  test.serial('an idle watch gets bookmarks with the newest version of all', async (t) => {
    const { ok, watch, namespace, source } = cluster();
    const ns = await namespace(t);
    const { metadata } = await ok('GET', podsOf(ns));
    const query = `watch=true&allowWatchBookmarks=true&resourceVersion=${metadata.resourceVersion}`;
    const events = await watch(`${podsOf(ns)}?${query}`, { withinMs: source.bookmarkWithinMs });
    const [bookmark] = await take(events, 1);
    t.is(bookmark?.type, 'BOOKMARK');
    t.is(bookmark?.object.metadata.annotations, undefined);
    t.true(Number(bookmark?.object.metadata.resourceVersion) >= Number(metadata.resourceVersion));
  });

  test.serial(
    'after a restart every object is there, a version from before a later change is Expired, and the newest one is good',
    async (t) => {
      const { ok, call, watch, namespace, source } = cluster();
      const ns = await namespace(t);
      await ok('POST', podsOf(ns), { body: pod('a') });
      const before = await ok('GET', podsOf(ns));
      const changed = await ok('POST', podsOf(ns), { body: pod('b') });
      await source.restart();
      // A real API server returns 403 and 5xx for a moment after its start.
      await waitFor('the API is back', async () => (await call('GET', podsOf(ns))).status === 200, { withinMs: 10_000, everyMs: 100 });
      const after = await ok('GET', podsOf(ns));
      t.deepEqual(
        after.items.map((item: { metadata: { uid: string } }) => item.metadata.uid),
        [before.items[0].metadata.uid, changed.metadata.uid],
      );
      const [error, ...rest] = await take(await watch(`${podsOf(ns)}?watch=true&resourceVersion=${before.metadata.resourceVersion}`), 2);
      t.is(error?.type, 'ERROR');
      t.like(error?.object, { kind: 'Status', code: 410, reason: 'Expired', status: 'Failure' });
      t.regex(error?.object.message, /^too old resource version: \d+ \(\d+\)$/);
      t.deepEqual(rest, []);
      const events = await watch(`${podsOf(ns)}?watch=true&resourceVersion=${after.metadata.resourceVersion}`);
      await ok('POST', podsOf(ns), { body: pod('c') });
      t.deepEqual(brief(await take(events, 1)), ['ADDED c']);
    },
  );
}
