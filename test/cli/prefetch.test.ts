/** `kura prefetch` against a scripted server: it starts a job, follows it, and reports how it ended. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { passedOn } from '../support/environment.ts';
import { waitFor } from '../support/wait.ts';
import { startKura } from './support/kura.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const id = 'abcdefghijklmnopqrstuv';
const job = {
  id,
  state: 'running',
  listing: false,
  accepted: 0,
  rejected: 0,
  dropped: 0,
  objects: 0,
  bytes: 0,
  present: 0,
  failures: 0,
  failuresByReason: {},
  failedKeys: [],
  rejectedKeys: [],
};
const done = { ...job, state: 'done', accepted: 1_300, objects: 1_000, bytes: 3 * 2 ** 20, present: 300 };

interface Asked {
  readonly method: string;
  readonly url: string;
  readonly body: string;
}
type Reply = readonly [status: number, body: object];

/** `reply` may be called several times for a GET. */
async function setting(t: ExecutionContext, reply: (asked: Asked) => Reply) {
  const kura = await startKura(t);
  const asked: Asked[] = [];
  kura.server.intercept = (request, response) => {
    void text(request).then((body) => {
      const each = { method: String(request.method), url: String(request.url), body };
      asked.push(each);
      const [status, value] = reply(each);
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    });
    return true;
  };
  return { ...kura, asked };
}

test.serial('prefetch starts a job, follows it to its end, and prints a summary', async (t) => {
  let polls = 0;
  const { run, asked } = await setting(t, ({ method }) =>
    method === 'POST'
      ? [202, { ...job, listing: true }]
      : [200, ++polls < 2 ? { ...job, listing: true, accepted: 900, objects: 20 } : done],
  );
  const { status, stdout, stderr } = await run(['prefetch', 'vision/a b']);
  t.is(status, 0, stderr);
  t.is(stdout, 'prefetch: done: 1,300 objects of vision/a%20b/: 300 already in the cache, 1,000 fetched, 3.0 MiB, 0 failures\n');
  t.deepEqual(
    asked.map(({ method, url }) => `${method} ${url}`),
    ['POST /prefetch/vision/a%20b/', `GET /prefetch/vision/a%20b/?id=${id}`, `GET /prefetch/vision/a%20b/?id=${id}`],
  );
  t.is(asked[0]?.body, '');
});

test.serial('--json prints the last progress, and failures are listed with exit status 1', async (t) => {
  const failed = {
    ...done,
    failures: 2,
    failuresByReason: { 'origin-miss': 2 },
    failedKeys: [{ key: 'vision/x', reason: 'origin-miss' }],
    rejected: 1,
    rejectedKeys: ['vision/large'],
  };
  const { run } = await setting(t, () => [200, failed]);
  const { status, stdout } = await run(['prefetch', 'vision/', '--json']);
  t.is(status, 1);
  t.deepEqual(JSON.parse(stdout), failed);
  const plain = await run(['prefetch', 'vision/']);
  t.is(plain.status, 1);
  t.regex(plain.stdout, /2 failures, 1 rejected\nfailures: origin-miss 2\nfailure: vision\/x: origin-miss\nrejected: vision\/large\n$/);
});

test.serial('--keys sends the keys of names, and refuses a name outside the prefix with its line', async (t) => {
  const { run, asked, folder } = await setting(t, () => [200, { ...done, dropped: 3 }]);
  await writeFile(path.join(folder, 'list'), Buffer.from('vision/d/a b\r\n\n/vision/d/\xff?\n', 'latin1'));
  const first = await run(['prefetch', 'vision/d/', '--keys', 'list']);
  t.is(asked[0]?.body, 'vision/d/a%20b\nvision/d/%FF%3F');
  t.is(first.status, 1);
  t.regex(first.stderr, /no room for the last names of the list/);
  await writeFile(path.join(folder, 'list'), 'vision/d/a%28\n');
  await run(['prefetch', 'vision/d/', '--keys', 'list', '--raw']);
  t.is(asked[1]?.body, 'vision/d/a(');
  await writeFile(path.join(folder, 'list'), 'd/x\nother/x\n');
  t.is(
    (await run(['prefetch', 'd', '--keys', 'list', '--prefix', 'vision'])).stderr,
    'kura: list, line 2: other/x is not below vision/d/\n',
  );
  await writeFile(path.join(folder, 'list'), '\n');
  t.like(await run(['prefetch', 'd', '--keys', 'list']), { status: 2, stderr: 'kura: list contains no names\n' });
  t.is(asked.length, 2);
});

test.serial('--detach names the commands that follow and stop the job', async (t) => {
  const { run, asked, folder } = await setting(t, ({ method }) =>
    method === 'POST' ? [202, job] : [200, method === 'DELETE' ? { ...done, state: 'stopped', failures: 1 } : done],
  );
  await writeFile(path.join(folder, 'my list'), 'vision/d/x\n');
  const detached = await run(['prefetch', 'vision/d', '--keys', 'my list', '--detach']);
  t.like(detached, { status: 0 });
  t.is(
    detached.stdout,
    `prefetch: job ${id} runs\nFollow with: kura prefetch vision/d --follow ${id}\nStop with: kura prefetch vision/d --stop ${id}\n`,
  );
  t.like(JSON.parse((await run(['prefetch', 'vision/d', '--detach', '--json'])).stdout), { id, state: 'running' });
  asked.length = 0;
  t.like(await run(['prefetch', 'vision/d', '--follow', id]), { status: 0 });
  const stopped = await run(['prefetch', 'vision/d', '--stop', id]);
  t.is(stopped.status, 0);
  t.regex(stopped.stdout, /^prefetch: stopped: /);
  t.deepEqual(
    asked.map(({ method, url }) => `${method} ${url}`),
    [`GET /prefetch/vision/d/?id=${id}`, `DELETE /prefetch/vision/d/?id=${id}`],
  );
  t.is((await run(['prefetch', 'vision/d', '--stop', id, '--detach'])).status, 2);
});

for (const [status, code, hint] of [
  [404, 'no-origin', 'kura prefetch works below the prefix of an origin'],
  [404, 'no-such-path', 'its operator can add the component origin'],
  [403, 'forbidden', 'a prefetch job needs GET and FILL over the whole prefix'],
  [501, 'no-list', 'name the keys with --keys FILE'],
  [503, 'shard-unavailable', 'the origin service does not respond'],
  [503, 'no-place-for-job', ''],
  [429, 'too-many-jobs', ''],
] as const) {
  test.serial(`${status} ${code} is reported at once`, async (t) => {
    const { run, asked } = await setting(t, () => [status, { status, code, detail: 'why' }]);
    const ended = await run(['prefetch', 'vision/d']);
    t.is(ended.status, 1);
    t.true(ended.stderr.startsWith(`kura: prefetch vision/d/: ${status} ${code}: why`), ended.stderr);
    t.true(ended.stderr.includes(hint), ended.stderr);
    t.is(asked.length, 1);
  });
}

test.serial('a job that is lost asks to repeat the command', async (t) => {
  const { run } = await setting(t, ({ method }) =>
    method === 'POST' ? [202, job] : [404, { status: 404, code: 'no-such-job', detail: 'Post again.' }],
  );
  const { status, stderr } = await run(['prefetch', 'vision/d']);
  t.is(status, 1);
  t.regex(stderr, /404 no-such-job: Post again\.\nrepeat the command; it skips objects that are in the cache\n/);
  t.regex((await run(['prefetch', 'vision/d', '--follow', id])).stderr, /start it again without --follow/);
});

test.serial('a job that another client has stopped names the command that continues', async (t) => {
  const { run } = await setting(t, ({ method }) => (method === 'POST' ? [202, job] : [200, { ...done, state: 'stopped' }]));
  const { status, stderr } = await run(['prefetch', 'vision/d']);
  t.is(status, 1);
  t.is(stderr, 'Continue with: kura prefetch vision/d\n');
});

test.serial('Ctrl-C names the commands that follow and stop the job', async (t) => {
  const { server, tokenFile, folder, asked } = await setting(t, ({ method }) => [method === 'POST' ? 202 : 200, job]);
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', process.execPath, path.join(root, 'services/cli/main.ts'), 'prefetch', 'd'],
    {
      cwd: folder,
      env: { ...passedOn, HOME: folder, KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  const printed = text(child.stderr);
  await waitFor('a request for the progress', () => asked.some(({ method }) => method === 'GET'));
  child.kill('SIGINT');
  const [status] = (await once(child, 'exit')) as [number];
  t.is(status, 130);
  t.is(
    await printed,
    `prefetch: interrupted; the job continues\nFollow with: kura prefetch d --follow ${id}\nStop with: kura prefetch d --stop ${id}\n`,
  );
});
