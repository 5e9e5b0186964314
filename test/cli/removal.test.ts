/** The progress of `kura rm -r`, against a scripted server. */
import test, { type ExecutionContext } from 'ava';
import { startKura } from './support/kura.ts';

const removal = 'abcdefghijklmnopqrstuv';
const begun = progress('pending', 0);
const done = progress('done', 20);

function progress(state: 'pending' | 'done', removed: number) {
  const shards = ['kura-cache-0/shard-0', 'kura-cache-1/shard-0'].map((shard) => ({ shard, state }));
  return { removal, prefix: 'vision/run/', before: '2026-01-01T00:00:00Z', state, removed, bytes: 0, shards };
}

/** A server that responds to DELETE with `begun`, and to each GET with the next of `polls`. */
async function remove(t: ExecutionContext, polls: object[]) {
  const { server, run } = await startKura(t);
  server.intercept = (request, response) => {
    request.resume();
    const [status, body] = request.method === 'DELETE' ? [202, begun] : [200, polls.shift()];
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    return true;
  };
  return await run(['rm', '-r', 'vision/run', '--yes']);
}

test.serial('rm -r prints no progress if the removal has ended at the first poll', async (t) => {
  const { status, stdout, stderr } = await remove(t, [done]);
  t.deepEqual([status, stderr], [0, '']);
  t.regex(stdout, /^shard +state\n.* +done\n.* +done\n\n20 objects, 0 B removed\n$/);
});

test.serial('rm -r prints the progress of a longer removal, each line once', async (t) => {
  const { status, stderr } = await remove(t, [progress('pending', 5), progress('pending', 5), done]);
  t.deepEqual([status, stderr], [0, 'kura rm: 5 objects removed; 2 of 2 shards pending\n']);
});
