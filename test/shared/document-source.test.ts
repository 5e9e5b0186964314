/** Documents in ConfigMaps of the fake Kubernetes API: what an absent, rejected or deleted one means where it is optional. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CoreV1Api } from '@kubernetes/client-node';
import test, { type ExecutionContext } from 'ava';
import { DocumentSource } from '../../services/shared/document-source.ts';
import { createLogger } from '../../services/shared/log.ts';
import { type FakeKubernetes, startFakeKubernetes } from '../fake-kubernetes/fake-kubernetes.ts';
import { waitFor } from '../support/wait.ts';

const namespace = 'kura-system';
const name = 'kura-origins';

async function setting(t: ExecutionContext) {
  const fake = await startFakeKubernetes(t);
  const core = fake.client.api(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: namespace } } });
  const file = path.join(fake.directory, 'last-good.yaml');
  const watch = (options: { isOptional?: boolean; writesEvents?: boolean } = {}) =>
    watchDocument(t, fake, { lastGoodFile: file, ...options });
  const apply = async (text: string): Promise<void> => {
    const body = { metadata: { name }, data: { 'origins.yaml': text } };
    const exists = await core.readNamespacedConfigMap({ namespace, name }).then(
      () => true,
      () => false,
    );
    if (exists) await core.replaceNamespacedConfigMap({ namespace, name, body });
    else await core.createNamespacedConfigMap({ namespace, body });
  };
  const remove = () => core.deleteNamespacedConfigMap({ namespace, name });
  const events = async (): Promise<string[]> =>
    (await core.listNamespacedEvent({ namespace })).items.map(({ reason }) => String(reason)).sort();
  return { file, watch, apply, remove, events };
}

function watchDocument(t: ExecutionContext, { client }: FakeKubernetes, options: object): DocumentSource<string> {
  const source = new DocumentSource<string>({
    client,
    namespace,
    configMap: name,
    key: 'origins.yaml',
    what: 'origins document',
    component: 'kura-test',
    compile: (value) =>
      value === 'bad'
        ? { kind: 'rejected', problems: [{ line: 1, column: 1, message: 'it is bad' }] }
        : { kind: 'document', value, warnings: [] },
    summary: () => ({}),
    lastGoodFile: undefined,
    log: createLogger({ service: 'test', level: 'fatal' }),
    ...options,
  });
  t.teardown(() => source.close());
  return source;
}

test.serial('without its ConfigMap an optional document is not in force, also after a deletion and after a restart', async (t) => {
  const { file, watch, apply, remove } = await setting(t);
  const source = watch({ isOptional: true });
  await waitFor('the first list', () => source.isWatching);
  t.is(source.current, undefined);
  await apply('one');
  await waitFor('the document', () => source.current === 'one');
  await apply('bad');
  await waitFor('the rejection', () => source.rejected === 1);
  t.is(source.current, 'one', 'a rejected document keeps the last good one');
  await remove();
  await waitFor('the deletion', () => source.current === undefined);
  t.is(source.hash, undefined);
  await apply('one');
  await waitFor('the document', () => source.current === 'one');
  await remove();
  await waitFor('the deletion', () => source.current === undefined);
  await source.close();
  t.is(await readFile(file, 'utf8'), 'one');
  const restarted = watch({ isOptional: true });
  t.is(restarted.current, 'one', 'until the API responds');
  await waitFor('the first list', () => restarted.current === undefined);
});

test.serial('a document that must exist stays in force after a deletion', async (t) => {
  const { file, watch, apply, remove } = await setting(t);
  await writeFile(file, 'saved');
  const source = watch();
  await waitFor('the first list', () => source.isWatching);
  t.is(source.current, 'saved');
  await apply('one');
  await waitFor('the document', () => source.current === 'one');
  await remove();
  await waitFor('the deletion', () => source.complaint.includes('was deleted'));
  t.is(source.current, 'one');
});

test.serial('only the service that is responsible for a document writes Events about it', async (t) => {
  const { watch, apply, events } = await setting(t);
  const silent = watch({ writesEvents: false });
  await apply('one');
  await waitFor('the document', () => silent.current === 'one');
  const source = watch();
  await waitFor('the Event', async () => (await events()).length > 0);
  t.deepEqual(await events(), ['OriginsDocumentAccepted']);
  t.is(source.current, 'one');
  await silent.close();
  await apply('bad');
  await waitFor('the Event', async () => (await events()).includes('OriginsDocumentRejected'));
});
