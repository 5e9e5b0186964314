import { stat } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { changesLimit, History } from '../../services/fake-kubernetes/history.ts';
import { openJournal } from '../../services/fake-kubernetes/journal.ts';
import type { StoredObject } from '../../services/fake-kubernetes/object.ts';
import { resources } from '../../services/fake-kubernetes/resources.ts';
import { type Entry, ObjectStore } from '../../services/fake-kubernetes/store.ts';
import { temporaryFolder } from '../support/service.ts';

const maps = resources.find(({ plural }) => plural === 'configmaps') as (typeof resources)[number];
const empty = { version: 1, entries: [] };

function object(store: ObjectStore, { name, value }: { name: string; value: string }): StoredObject {
  const metadata = { name, namespace: 'n', uid: name, resourceVersion: String(store.nextVersion), creationTimestamp: '' };
  return { metadata, data: { value } };
}

/** Puts, or removes what is there. */
function apply(store: ObjectStore, { name, value }: { name: string; value: string | null }): void {
  const present = store.find(maps, { namespace: 'n', name });
  if (value !== null) store.put(maps, object(store, { name, value }));
  else if (present !== undefined)
    store.remove(maps, { ...present, metadata: { ...present.metadata, resourceVersion: String(store.nextVersion) } });
}

const changes = fc.array(fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd'), value: fc.option(fc.string({ maxLength: 3 })) }), {
  maxLength: 60,
});

test('the collection at any version of the history is what it was then', (t) => {
  fc.assert(
    fc.property(changes, (steps) => {
      const store = new ObjectStore({ restored: empty, write: () => undefined });
      const snapshots = new Map([[store.version, store.list(maps)]]);
      for (const step of steps) {
        apply(store, step);
        snapshots.set(store.version, store.list(maps));
      }
      for (const [version, then] of snapshots) t.deepEqual(store.listAt(maps, version), then);
      t.is(store.listAt(maps, 0), undefined);
    }),
    { numRuns: 50 },
  );
});

test('a store made from what was written down is the same store', (t) => {
  fc.assert(
    fc.property(changes, (steps) => {
      const written = new Map<string, Entry>();
      const store = new ObjectStore({ restored: empty, write: (entry) => written.set(entry.key, entry) });
      for (const step of steps) apply(store, step);
      const again = new ObjectStore({ restored: { version: store.version, entries: [...written.values()] }, write: () => undefined });
      t.deepEqual(again.list(maps), store.list(maps));
    }),
    { numRuns: 50 },
  );
});

test('a change that cannot be written down does not happen', (t) => {
  const failing = (): void => {
    throw new Error('no space');
  };
  let write = (): void => undefined;
  const store = new ObjectStore({ restored: empty, write: () => write() });
  apply(store, { name: 'a', value: '1' });
  const { version } = store;
  write = failing;
  t.throws(() => apply(store, { name: 'a', value: '2' }), { message: 'no space' });
  t.throws(() => apply(store, { name: 'a', value: null }), { message: 'no space' });
  t.throws(() => apply(store, { name: 'b', value: '1' }), { message: 'no space' });
  t.is(store.version, version);
  t.deepEqual(
    store.list(maps).map(({ data }) => data),
    [{ value: '1' }],
  );
  t.deepEqual(store.history(maps, 1).history.end, 1);
});

test('a history keeps the newest changes, by number and by bytes, and says what it forgot', (t) => {
  const store = new ObjectStore({ restored: empty, write: () => undefined });
  const history = new History(0);
  const push = (version: number, sizeBytes: number): void =>
    history.push({ type: 'ADDED', version, object: object(store, { name: 'a', value: '' }), previous: undefined, sizeBytes });
  for (let version = 1; version <= changesLimit + 5; version++) push(version, 1);
  t.is(history.forgotten, 5);
  t.is(history.positionAfter(4), undefined);
  t.is(history.positionAfter(5), 5);
  t.is(history.at(4), 'forgotten');
  t.is(history.positionAfter(9_999), history.end);
  t.is(history.at(history.end), undefined);
  push(2_000, 100 * 2 ** 20);
  t.is(history.forgotten, changesLimit + 5);
  t.is(history.positionAfter(changesLimit + 5), history.end - 1);
});

test('the journal is written anew when it has grown, and reads back as the newest of everything', async (t) => {
  const file = path.join(await temporaryFolder(t), 'objects.jsonl');
  let store: ObjectStore | undefined;
  const journal = openJournal(file, () => ({ version: store?.version ?? 0, entries: store?.entries() ?? [] }));
  store = new ObjectStore({ restored: journal.restored, write: journal.write });
  const value = 'x'.repeat(10_000);
  for (let at = 0; at < 2_000; at++) apply(store, { name: at % 7 === 0 ? 'b' : 'a', value: at % 11 === 0 ? null : value + at });
  journal.close();
  t.true((await stat(file)).size < 5 * 2 ** 20);
  const again = openJournal(file, () => empty);
  t.teardown(() => again.close());
  const restored = new ObjectStore({ restored: again.restored, write: again.write });
  t.is(restored.version, store.version);
  t.deepEqual(restored.list(maps), store.list(maps));
});
