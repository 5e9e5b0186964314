import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Kura, startKura } from './support/kura.ts';

/** A folder `data` of three files. */
async function withData(t: ExecutionContext): Promise<Kura> {
  const kura = await startKura(t);
  await mkdir(path.join(kura.folder, 'data', 'sub'), { recursive: true });
  await writeFile(path.join(kura.folder, 'data', 'a.jpg'), 'a'.repeat(1000));
  await writeFile(path.join(kura.folder, 'data', 'empty'), '');
  await writeFile(path.join(kura.folder, 'data', 'sub', 'my file'), 'b'.repeat(200_000));
  return kura;
}

test.serial('warm stores a folder, and a second run skips every object', async (t) => {
  const { server, run } = await withData(t);
  const first = await run(['warm', 'data', 'vision/data/']);
  t.is(first.status, 0, first.stderr);
  t.regex(first.stdout, /^3 files, 196\.3 KiB, from \S+\/data to vision\/data\/\nwarm: 0 already stored \(0\.0 %\), 3 stored, 0 failures/);
  t.deepEqual([...server.objects.keys()].sort(), ['vision/data/a.jpg', 'vision/data/empty', 'vision/data/sub/my%20file']);
  const asked = server.requests.length;
  t.regex((await run(['warm', 'data', 'vision/data'])).stdout, /warm: 3 already stored \(100\.0 %\), 0 stored/);
  t.deepEqual(
    server.requests.slice(asked).map(({ method }) => method),
    ['HEAD', 'HEAD', 'HEAD'],
  );
});

test.serial('warm stores an object again if its size differs, and every object with --force', async (t) => {
  const { server, run } = await withData(t);
  await run(['warm', 'data', 'vision/data']);
  server.objects.set('vision/data/a.jpg', Buffer.from('half'));
  t.regex((await run(['warm', 'data', 'vision/data'])).stdout, /2 already stored \(66\.7 %\), 1 stored/);
  t.is(server.objects.get('vision/data/a.jpg')?.length, 1000);
  t.regex((await run(['warm', 'data', 'vision/data', '--force'])).stdout, /0 already stored .*, 3 stored/);
});

test.serial('warm accepts a list of names and reports the line of a name that is not a file in its folder', async (t) => {
  const { server, folder, run } = await withData(t);
  await writeFile(path.join(folder, 'list'), 'data/a.jpg\n\ndata/sub/my file\n');
  t.is((await run(['warm', 'list', 'vision'])).status, 0);
  t.deepEqual([...server.objects.keys()].sort(), ['vision/data/a.jpg', 'vision/data/sub/my%20file']);
  for (const name of ['data/absent', 'data', '../../etc/passwd']) {
    await writeFile(path.join(folder, 'list'), `data/a.jpg\n${name}\n`);
    const { status, stderr } = await run(['warm', 'list', 'vision']);
    t.is(status, 2);
    t.is(stderr, `kura: ${folder}/list, line 2: ${name} is not a file in or below the folder of the list\n`);
  }
});

test.serial('verify finds a byte that differs, and reports missing objects without failing', async (t) => {
  const { server, run } = await withData(t);
  await run(['warm', 'data', 'vision/data']);
  t.regex((await run(['verify', 'data', 'vision/data'])).stdout, /verify: 3 identical \(100\.0 %\), 0 missing, 0 failures, 0 differences/);
  t.like(JSON.parse((await run(['verify', 'data', 'vision/data', '--json'])).stdout), { total: 3, hits: 3, differences: 0 });
  server.objects.delete('vision/data/empty');
  const missing = await run(['verify', 'data', 'vision/data']);
  t.is(missing.status, 0);
  t.regex(missing.stdout, /2 identical .*, 1 missing/);
  (server.objects.get('vision/data/sub/my%20file') as Buffer).writeUInt8(0, 199_999);
  const { status, stdout } = await run(['verify', 'data', 'vision/data']);
  t.is(status, 1);
  t.regex(stdout, /1 differences/);
  t.regex(stdout, /difference: sub\/my file: bytes differ from the file between/);
  t.false(server.requests.slice(-3).some(({ method }) => method === 'PUT'));
});

test.serial('failures are counted by kind and the exit status is 1; --json prints only the summary', async (t) => {
  const { server, run } = await withData(t);
  server.intercept = (request, response) => {
    if (request.method !== 'PUT') return false;
    request.resume().on('end', () => response.writeHead(507).end('{"code":"no-room","detail":"full"}'));
    return true;
  };
  const { status, stdout } = await run(['warm', 'data', 'vision/data', '--json']);
  t.is(status, 1);
  t.like(JSON.parse(stdout), { hits: 0, failures: 3, failuresByKind: { 'PUT 507': 3 } });
  t.regex((await run(['warm', 'data', 'vision/data'])).stdout, /failure: \S+: PUT \S+ returned 507 no-room: full/);
});

test.serial('a missing folder, an empty folder and an unreachable server are reported with exit status 2', async (t) => {
  const { server, folder, run } = await withData(t);
  t.like(await run(['warm', 'absent', 'vision']), {
    status: 2,
    stderr: `kura: ENOENT: no such file or directory, stat '${folder}/absent'\n`,
  });
  await rm(path.join(folder, 'data'), { recursive: true });
  await mkdir(path.join(folder, 'data'));
  t.like(await run(['verify', 'data', 'vision']), { status: 2, stderr: `kura: ${folder}/data contains no files\n` });
  await server.close();
  t.regex((await run(['warm', 'data', 'vision'])).stderr, /\nkura: no response from http\S+ for 10 s: /);
});
