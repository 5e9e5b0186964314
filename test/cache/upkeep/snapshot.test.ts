import { open, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { type GroupName, Groups, maxGroupsOfNamespace, unknownGroup } from '../../../services/cache/index/groups.ts';
import { noRow, ObjectIndex } from '../../../services/cache/index/object-index.ts';
import { readSnapshot, snapshotFile, writeSnapshot } from '../../../services/cache/upkeep/snapshot.ts';
import { nameChunkBytes, planSnapshot, rowChunkBytes } from '../../../services/cache/upkeep/snapshot-format.ts';
import { temporaryDirectory } from '../support/shard.ts';

const shares = { n0: 0.25, n1: 1 / 3 };

/** An index with `count` groups of one object each, and the names of the groups by number. */
function makeIndex(count: number, prefixBytes: number) {
  const index = new ObjectIndex({ capacity: count + 10 });
  const groups = new Groups({ isEmpty: (group) => index.groupCount(group) === 0 });
  const names = Array.from({ length: count }, (_, at) => ({
    namespace: `n${Math.floor(at / maxGroupsOfNamespace)}`,
    prefix: `${String(at).padStart(prefixBytes - 1, 'x')}/`,
  }));
  for (const [at, name] of names.entries())
    index.insert({ a: at, b: at, c: at, blocks: 1 + (at % 5), tick: 1 + at, group: groups.number(name) });
  return { index, groups, names };
}

const planFor = ({ index, groups }: { index: ObjectIndex; groups: Groups }) =>
  planSnapshot({ objects: index.count, names: groups.size, nameBytes: groups.nameBytes, shares: Object.keys(shares).length });

async function write(t: ExecutionContext, parts: { index: ObjectIndex; groups: Groups }) {
  const directory = await temporaryDirectory(t);
  const { index, groups } = parts;
  const totals = { tick: 99, takenAtMs: 1234, objects: index.count, blocks: index.totalBlocks, shares };
  await writeSnapshot({ directory, index, groups, totals, plan: planFor(parts) });
  return directory;
}

async function read(directory: string) {
  const rows: { at: number; blocks: number; tick: number; name: GroupName | undefined }[] = [];
  let foundShares: unknown;
  const totals = await readSnapshot(
    directory,
    (found) => {
      foundShares = found.shares;
    },
    ({ a, blocks, tick }, name) => rows.push({ at: a, blocks, tick, name }),
    new AbortController().signal,
  );
  return { totals, rows, shares: foundShares };
}

test('a snapshot returns all rows with their names, the newest row of each group first', async (t) => {
  const parts = makeIndex(12_000, 20);
  const { index, groups, names } = parts;
  const second = index.insert({ a: 50_000, b: 0, c: 0, blocks: 1, tick: 70_000, group: groups.number(names[5] as GroupName) });
  t.not(second, noRow);
  index.insert({ a: 60_000, b: 0, c: 0, blocks: 1, tick: 80_000, group: unknownGroup });
  const found = await read(await write(t, parts));
  t.is(found.totals?.tick, 99);
  t.deepEqual(found.shares, shares);
  t.is(found.rows.length, 12_002);
  for (const { at, blocks, tick, name } of found.rows) {
    if (at >= 12_000) continue;
    t.deepEqual({ blocks, tick, name }, { blocks: 1 + (at % 5), tick: 1 + at, name: names[at] });
  }
  t.deepEqual(
    found.rows.filter(({ name }) => name?.prefix === names[5]?.prefix).map(({ at }) => at),
    [50_000, 5],
  );
  t.is(found.rows.find(({ at }) => at === 60_000)?.name, undefined, 'its namespace is still unknown');
});

test('long names stay within the planned size, and no turn of the event loop writes more than one chunk of names', async (t) => {
  const parts = makeIndex(20_000, 990);
  const plan = planFor(parts);
  let bytes = 0;
  let most = 0;
  let isOver = false;
  const { groups } = parts;
  groups.name = (group) => {
    const name = Groups.prototype.name.call(groups, group);
    bytes += (name?.namespace.length ?? 0) + (name?.prefix.length ?? 0);
    most = Math.max(most, bytes);
    return name;
  };
  const turn = () => {
    bytes = 0;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  const directory = await write(t, parts);
  isOver = true;
  t.true(most > 0 && most <= nameChunkBytes + 2048, `${most}`);
  const { size } = await stat(snapshotFile(directory));
  t.true(size > 19_000_000);
  t.true(size <= plan.maxBytes, `${size} of ${plan.maxBytes}`);
  t.true(plan.maxBytes <= size * 1.4, `${size} of ${plan.maxBytes}`);
  const found = await read(directory);
  t.deepEqual(
    found.rows.map(({ name }) => name),
    found.rows.map(({ at }) => parts.names[at]),
  );
});

test('entries beyond the plan, added while a snapshot is written, are left out', async (t) => {
  const parts = makeIndex(20_000, 990);
  const directory = await temporaryDirectory(t);
  const { index, groups } = parts;
  const plan = { maxRowChunks: 2, maxNameChunks: 3, maxBytes: 0 };
  await writeSnapshot({ directory, index, groups, totals: { tick: 1, takenAtMs: 1, objects: 1, blocks: 1 }, plan });
  const { size } = await stat(snapshotFile(directory));
  t.true(size < 2 * rowChunkBytes + 3 * nameChunkBytes + 1024);
  t.true((await read(directory)).rows.length > 10_000);
});

test('a damaged chunk loses only its own names or rows', async (t) => {
  const parts = makeIndex(12_000, 100);
  const directory = await write(t, parts);
  const rowChunks = 3;
  const damage = async (at: number) => {
    const handle = await open(snapshotFile(directory), 'r+');
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte[0] = (byte[0] as number) ^ 1;
    await handle.write(byte, 0, 1, at);
    await handle.close();
  };
  await damage(rowChunks * rowChunkBytes + 2 * nameChunkBytes + 5000);
  const { rows } = await read(directory);
  t.is(rows.length, 12_000);
  const unnamed = rows.filter(({ name }) => name === undefined).length;
  t.true(unnamed > 400 && unnamed < 700, `${unnamed}`);
  for (const { at, name } of rows) if (name !== undefined) t.deepEqual(name, parts.names[at]);
  await damage(rowChunkBytes + 5000);
  const left = await read(directory);
  t.true(left.rows.length > 6000 && left.rows.length < 7000, `${left.rows.length}`);
});

test('a snapshot of version 1 is read', async (t) => {
  const directory = await temporaryDirectory(t);
  const chunk = Buffer.alloc(rowChunkBytes);
  const groups = [{ namespace: '', prefix: '(unknown)' }, { namespace: '', prefix: '(others)' }, { namespace: 'n', prefix: 'set/' }, null];
  for (const group of groups.keys()) {
    for (const [field, value] of [group, 1, 2, 3, 10 + group, group].entries()) chunk.writeUInt32LE(value, 8 + group * 24 + field * 4);
  }
  chunk.writeUInt32LE(groups.length, 0);
  chunk.writeUInt32LE(crc32(chunk.subarray(8)), 4);
  const footer = { version: 1, tick: 50, takenAtMs: 7, objects: 4, blocks: 12, shares, chunks: 1, groups };
  const text = Buffer.from(JSON.stringify(footer));
  const tail = Buffer.alloc(16);
  tail.writeUInt32LE(text.length, 0);
  tail.writeUInt32LE(crc32(text), 4);
  tail.write('kurasnap', 8);
  await writeFile(path.join(directory, 'snapshot'), Buffer.concat([chunk, text, tail]));
  const found = await read(directory);
  t.is(found.totals?.tick, 50);
  t.deepEqual(found.shares, shares);
  t.deepEqual(
    found.rows.map(({ at, tick, name }) => ({ at, tick, name })),
    [
      { at: 3, tick: 13, name: undefined },
      { at: 2, tick: 12, name: { namespace: 'n', prefix: 'set/' } },
      { at: 1, tick: 11, name: undefined },
      { at: 0, tick: 10, name: undefined },
    ],
  );
  await writeFile(path.join(directory, 'snapshot'), (await readFile(path.join(directory, 'snapshot'))).subarray(1));
  t.is((await read(directory)).totals, undefined);
});
