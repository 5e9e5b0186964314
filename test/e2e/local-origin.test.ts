/** `npm start -- --origin`: kura fetches misses from a folder and from an HTTP server. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { readMetric } from '../support/metrics.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const test = anyTest as TestFn;
const files = 40;
const asked: string[] = [];
let data: string;
let stateDirectory: string;
let system: LocalSystem;

/** Responds slowly, so that requests meet. */
const web = createServer((request, response) => {
  asked.push(`${request.method} ${request.url}`);
  const timer = setTimeout(() => response.writeHead(200, { 'content-length': 9 }).end('from afar'), 300);
  response.on('close', () => clearTimeout(timer));
});

test.before(async (t) => {
  t.timeout(120_000);
  data = await mkdtemp(path.join(tmpdir(), 'kura-data-'));
  stateDirectory = await mkdtemp(path.join(tmpdir(), 'kura-e2e-'));
  await mkdir(path.join(data, 'a b'));
  for (let index = 0; index < files; index++) await writeFile(path.join(data, 'a b', `${index}%`), 'x'.repeat(index * 10_000));
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  system = await start();
});
test.after.always(async () => {
  web.close();
  web.closeAllConnections();
  await system?.stop();
  await rm(data, { recursive: true, force: true });
});

function start(): Promise<LocalSystem> {
  const url = `http://127.0.0.1:${(web.address() as AddressInfo).port}/files`;
  const args = ['--shards', '2', '--origin', `_shared/data/=${data}`, '--origin', `vision/web/=${url}`];
  return startLocalSystem({ args, stateDirectory });
}

async function epoch(...words: readonly string[]): Promise<string> {
  const main = path.join(root, 'services', 'cli', 'main.ts');
  const { stdout } = await run(process.execPath, [
    main,
    'epoch',
    data,
    '--through',
    '--local',
    path.join(stateDirectory, 'local.json'),
    ...words,
  ]);
  return stdout;
}

test.serial('the greeting has the command that reads the folder, and it uploads nothing', async (t) => {
  t.regex(system.output(), new RegExp(`npm run epoch -- ${data} --through`));
  const output = await epoch();
  t.regex(output, /from .* to _shared\/data\//);
  t.regex(output, /epoch 1: 0 hits \(0\.0 %\), 40 fetched from the origin, 0 failures, 0 differences/);
  t.regex(output, /epoch 2: 40 hits \(100\.0 %\), 0 fetched from the origin, 0 failures, 0 differences/);
  const { originMetricsUrl } = await system.local();
  t.is(await readMetric(originMetricsUrl as string, 'kura_origin_requests_total', 'origin="shared-data",result="object"'), files);
});

test.serial('many clients ask for one object of the HTTP server, which gets one request', async (t) => {
  const request = { as: 'vision/trainer', path: '/through/vision/web/a%20b?v=1' };
  const answers = await Promise.all(Array.from({ length: 30 }, () => system.call(request)));
  for (const { status, body, headers } of answers) {
    t.is(status, 200);
    t.is(body.toString(), 'from afar');
    t.regex(String(headers['x-kura-cache']), /^(fill|wait|hit)$/);
  }
  t.deepEqual(asked, ['GET /files/a%20b?v=1']);
  const { status, headers } = await system.call({ ...request, path: '/objects/vision/web/a%20b?v=1' });
  t.is(status, 200);
  t.is(headers['x-kura-cache'], undefined);
});

test.serial('a caller without FILL, a key without an origin and a missing file cause no wrong response', async (t) => {
  const code = async (as: string, key: string): Promise<string> => {
    const { status, body } = await system.call({ as, path: `/through/${key}` });
    return `${status} ${(JSON.parse(body.toString()) as { code: string }).code}`;
  };
  const before = asked.length;
  t.is(await code('nlp/trainer', 'vision/web/x'), '403 forbidden');
  t.is(await code('nlp/trainer', 'nlp/x'), '404 miss');
  t.is(await code('nlp/trainer', '_shared/data/none'), '404 origin-miss');
  t.is(asked.length, before);
});

test.serial('a killed origin service is back at its port, and a system without --origin fetches nothing', async (t) => {
  t.timeout(120_000);
  const former = await system.signal('origin', 'SIGKILL');
  await system.restarted('origin', former);
  const request = { as: 'vision/trainer', path: '/through/vision/web/later' };
  await waitFor('it fetches again', async () => (await system.call(request)).status === 200);
  await system.kubernetes.close();
  system.child.kill('SIGINT');
  await once(system.child, 'exit');
  system = await startLocalSystem({ args: ['--shards', '2'], stateDirectory });
  t.deepEqual((await system.local()).origins, []);
  await waitFor('a miss', async () => (await system.call({ as: 'vision/trainer', path: '/through/vision/web/none' })).status === 404);
  t.is((await system.call(request)).status, 200);
});
