/** The saved assignment: what is read back, and what counts as no file. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { pino } from 'pino';
import { StateFile } from '../../services/eds/state-file.ts';
import type { Shard } from '../../services/shared/shard-endpoints.ts';
import { temporaryFolder } from '../support/service.ts';
import { candidates } from './support/shards.ts';

const shards: Shard[] = candidates(3).map(({ createdAt: _createdAt, podUid: _podUid, ...shard }) => shard);

function recorder() {
  const messages: string[] = [];
  return { messages, log: pino({ level: 'warn' }, { write: (line: string) => messages.push(JSON.parse(line).msg as string) }) };
}

test('the newest of several saved assignments is read back', async (t) => {
  const { messages, log } = recorder();
  const options = { file: path.join(await temporaryFolder(t), 'assignment.json'), service: 'kura-cache', log };
  const state = new StateFile(options);
  t.is(state.read(), undefined);
  for (const count of [1, 2, 3]) state.save(shards.slice(0, count));
  await state.close();
  t.deepEqual(new StateFile(options).read(), shards);
  t.is(new StateFile({ ...options, service: 'other' }).read(), undefined);
  t.deepEqual(messages, ['cannot use the saved assignment; starting without it']);
});

for (const [what, change] of [
  ['an empty file', () => ''],
  ['a file that ends early', (text: string) => text.slice(0, 100)],
  ['null', () => 'null'],
  ['another form', (text: string) => text.replace('"form":1', '"form":2')],
  ['no list', () => '{"form":1,"service":"kura-cache","shards":{}}'],
  ['a shard that is null', () => '{"form":1,"service":"kura-cache","shards":[null]}'],
  ['a port that is no number', (text: string) => text.replace('"port":7000', '"port":"7000"')],
  ['an unknown health', (text: string) => text.replace('HEALTHY', 'FINE')],
  ['one hash_key twice', (text: string) => text.replace('kura-cache-1/', 'kura-cache-0/')],
  ['one address twice', (text: string) => text.replace('10.0.0.1', '10.0.0.0')],
] as const) {
  test(`${what} counts as no file, and is logged`, async (t) => {
    const { messages, log } = recorder();
    const file = path.join(await temporaryFolder(t), 'assignment.json');
    const state = new StateFile({ file, service: 'kura-cache', log });
    state.save(shards);
    await state.close();
    await writeFile(file, change(await readFile(file, 'utf8')));
    t.is(state.read(), undefined);
    t.deepEqual(messages, ['cannot use the saved assignment; starting without it']);
  });
}

test('a folder that cannot be written is logged and disturbs nothing', async (t) => {
  const { messages, log } = recorder();
  const state = new StateFile({ file: path.join(await temporaryFolder(t), 'none', 'assignment.json'), service: 'kura-cache', log });
  state.save(shards);
  await state.close();
  t.deepEqual(messages, ['cannot save the assignment for a restart']);
});
