import type { ServerResponse } from 'node:http';
import test from 'ava';
import { waitFor } from '../../support/wait.ts';
import { ask } from '../datasets/support/console.ts';
import { HostileFiles } from '../support/hostile-files.ts';
import { metric } from '../support/shard.ts';
import { startThrough } from './support/through.ts';

async function remove(shard: { url: string }, prefix: string): Promise<string> {
  return (await ask(shard, `/datasets?prefix=${encodeURIComponent(prefix)}`, { method: 'DELETE' })).json.removal;
}

async function ended(shard: { url: string }, id: string): Promise<void> {
  await waitFor('the removal ends', async () => (await ask(shard, `/datasets/removal?id=${id}`)).json.state === 'done');
}

test('after a removal no request joins a fill that began before it, and that fill is not stored', async (t) => {
  const open: ServerResponse[] = [];
  const through = await startThrough(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 3 });
    response.flushHeaders();
    open.push(response);
  });
  const early = through.get('a');
  await waitFor('the first request at the origin', () => open.length === 1);
  await ended(through.shard, await remove(through.shard, through.prefix));
  const late = through.get('a');
  await waitFor('the second request at the origin', () => open.length === 2);
  open[1]?.end('new');
  t.is((await late).body.toString(), 'new');
  open[0]?.end('old');
  t.is((await early).body.toString(), 'old');
  await waitFor('both fills have ended', async () => (await metric(through.shard, 'kura_cache_fills_total')) === 2);
  t.is((await through.stored('a')).body.toString(), 'new');
  t.is(open.length, 2);
  t.is(await metric(through.shard, 'kura_cache_reserved_bytes'), 0);
});

test('a fill whose rename is in progress when a removal comes is not stored, and its room is free', async (t) => {
  const hostile = new HostileFiles();
  const through = await startThrough(
    t,
    (_request, response) => {
      response.writeHead(200, { 'content-length': 3 });
      response.end('old');
    },
    { files: hostile.files },
  );
  hostile.hangs.add('rename');
  t.is((await through.get('a')).body.toString(), 'old');
  await waitFor('the rename hangs', () => hostile.waiting === 1);
  const removal = await remove(through.shard, through.prefix);
  hostile.heal();
  await ended(through.shard, removal);
  await waitFor('the fill has ended', async () => (await metric(through.shard, 'kura_cache_fills_total')) === 1);
  t.is((await through.stored('a')).status, 404);
  await waitFor('its room is free', async () => (await metric(through.shard, 'kura_cache_reserved_bytes')) === 0);
  t.is(await metric(through.shard, 'kura_cache_objects'), 0);
  t.is(await metric(through.shard, 'kura_cache_disk_errors_total'), 0);
});
