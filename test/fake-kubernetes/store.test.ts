import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { History, maxChanges } from '../../services/fake-kubernetes/history.ts';
import type { StoredObject } from '../../services/fake-kubernetes/object.ts';
import { type Entry, readEntries, writeEntry } from '../../services/fake-kubernetes/object-files.ts';
import { resources } from '../../services/fake-kubernetes/resources.ts';
import { ObjectStore } from '../../services/fake-kubernetes/store.ts';
import { temporaryFolder } from '../support/service.ts';

const maps = resources.find(({ plural }) => plural === 'configmaps') as (typeof resources)[number];
const empty = { firstVersion: 1, entries: [] };

function object({ name, value }: { name: string; value: string }): StoredObject {
  const metadata = { name, namespace: 'n', uid: name, resourceVersion: '', creationTimestamp: '' };
  return { metadata, data: { value } };
}

/** Creates, replaces or removes the object of a name. */
function apply(store: ObjectStore, { name, value }: { name: string; value: string | null }): void {
  const present = store.find(maps, { namespace: 'n', name });
  if (value !== null) store.put(maps, object({ name, value }));
  else if (present !== undefined) store.remove(maps, present);
}

const changes = fc.array(fc.record({ name: fc.constantFrom('a', 'b', 'c', 'd'), value: fc.option(fc.string({ maxLength: 3 })) }), {
  maxLength: 60,
});

test('the collection at any version of the history is what it was then', (t) => {
  fc.assert(
    fc.property(changes, (steps) => {
      const store = new ObjectStore({ ...empty, write: () => undefined });
      const snapshots = new Map([[store.version, store.list(maps)]]);
      for (const step of steps) {
        apply(store, step);
        snapshots.set(store.version, store.list(maps));
      }
      for (const [version, then] of snapshots) t.deepEqual(store.listAt(maps, version), then);
      t.throws(() => store.listAt(maps, 0), { message: /^too old resource version: 0 \(1\)$/ });
    }),
    { numRuns: 50 },
  );
});

test('a store with the entries that another one wrote is the same store', (t) => {
  fc.assert(
    fc.property(changes, (steps) => {
      const written = new Map<string, Entry>();
      const store = new ObjectStore({ ...empty, write: (entry) => written.set(entry.key, entry) });
      for (const step of steps) apply(store, step);
      const again = new ObjectStore({ firstVersion: store.version, entries: [...written.values()], write: () => undefined });
      t.deepEqual(again.list(maps), store.list(maps));
    }),
    { numRuns: 50 },
  );
});

test('a change that cannot be written does not happen', (t) => {
  const failing = (): void => {
    throw new Error('no space');
  };
  let write = (): void => undefined;
  const store = new ObjectStore({ ...empty, write: () => write() });
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

test('a history keeps the newest changes, by number and by bytes, and knows the version that it forgot', (t) => {
  const history = new History(0);
  const push = (version: number, sizeBytes: number): void =>
    history.push({ type: 'ADDED', version, object: object({ name: 'a', value: '' }), previous: undefined, sizeBytes });
  for (let version = 1; version <= maxChanges + 5; version++) push(version, 1);
  t.is(history.forgotten, 5);
  t.is(history.positionAfter(4), undefined);
  t.is(history.positionAfter(5), 5);
  t.is(history.at(4), 'forgotten');
  t.is(history.positionAfter(9_999), history.end);
  t.is(history.at(history.end), undefined);
  push(2_000, 100 * 2 ** 20);
  t.is(history.forgotten, maxChanges + 5);
  t.is(history.positionAfter(maxChanges + 5), history.end - 1);
});

test('the folder has one file for each object, and reads back as the newest of each', async (t) => {
  const folder = path.join(await temporaryFolder(t), 'objects');
  const open = (): ObjectStore =>
    new ObjectStore({ firstVersion: 1, entries: readEntries(folder), write: (entry) => writeEntry(folder, entry) });
  const store = open();
  for (let at = 0; at < 200; at++) apply(store, { name: at % 7 === 0 ? 'b' : 'a', value: at % 11 === 0 ? null : `${at}` });
  const files = await readdir(folder);
  t.is(files.length, store.list(maps).length);
  for (const file of files) t.is((await stat(path.join(folder, file))).mode & 0o777, 0o600, file);
  t.deepEqual(open().list(maps), store.list(maps));
});
