/** An origin that is a folder: what it serves, and what it must not. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink, truncate, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { temporaryFolder } from '../support/service.ts';
import { codeOf, startOrigin } from './support/origin.ts';

async function setting(t: ExecutionContext) {
  const outside = await temporaryFolder(t);
  const folder = path.join(outside, 'data');
  await mkdir(path.join(folder, 'train', 'a'), { recursive: true });
  const service = await startOrigin(t, `- { name: nfs, prefix: nfs/, file: { path: ${folder} } }\n`);
  const list = async (query: string) => {
    const { body } = await call(service.url, { path: `/list/nfs?${query}`, headers: { ...callerHeaders({ fill: 'nfs' }) } });
    return String(body)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { key?: string; size?: number; end?: boolean; next?: string });
  };
  return { ...service, outside, folder, list };
}

test.serial('a file arrives whole or as a range, under any name, with a version that changes with it', async (t) => {
  const { fetch, folder } = await setting(t);
  await writeFile(path.join(folder, 'a b?c.bin'), 'ABCDEFGHIJ');
  await writeFile(Buffer.from(`${folder}/\xff`, 'latin1'), 'not UTF-8');
  await writeFile(path.join(folder, 'empty'), '');
  const whole = await fetch('nfs', 'a%20b?c.bin');
  t.deepEqual([whole.status, String(whole.body), whole.headers['content-length']], [200, 'ABCDEFGHIJ', '10']);
  const part = await fetch('nfs', 'a%20b?c.bin', { headers: { range: 'bytes=8-100' } });
  t.deepEqual([part.status, String(part.body), part.headers['content-range']], [206, 'IJ', 'bytes 8-9/10']);
  t.is(codeOf(await fetch('nfs', 'a%20b?c.bin', { headers: { range: 'bytes=10-' } })), 'range-not-satisfiable');
  t.is(String((await fetch('nfs', '%FF')).body), 'not UTF-8');
  const empty = await fetch('nfs', 'empty');
  t.deepEqual([empty.status, empty.headers['content-length']], [200, '0']);
  const head = await fetch('nfs', 'a%20b?c.bin', { method: 'HEAD' });
  t.deepEqual([head.headers['content-length'], head.headers.etag], ['10', whole.headers.etag]);
  await writeFile(path.join(folder, 'a b?c.bin'), 'other bytes');
  const version = whole.headers.etag as string;
  t.is(codeOf(await fetch('nfs', 'a%20b?c.bin', { headers: { 'if-match': version } })), 'origin-changed');
});

test.serial('folders, devices and absent names are misses, and no link leads out of the folder', async (t) => {
  const { fetch, folder, outside } = await setting(t);
  await writeFile(path.join(outside, 'secret'), 'secret');
  await writeFile(path.join(folder, 'inside'), 'inside');
  await symlink(path.join(outside, 'secret'), path.join(folder, 'link'));
  await symlink(outside, path.join(folder, 'up'));
  await symlink('../inside', path.join(folder, 'train', 'good'));
  execFileSync('mkfifo', [path.join(folder, 'fifo')]);
  for (const name of ['train', 'absent', 'inside/x', 'fifo', 'x'.repeat(300)]) t.is(codeOf(await fetch('nfs', name)), 'origin-miss', name);
  for (const name of ['link', 'up/secret']) t.is(codeOf(await fetch('nfs', name)), 'origin-refused', name);
  t.is(String((await fetch('nfs', 'train/good')).body), 'inside');
});

test.serial('a file that shrinks while it is read breaks the connection', async (t) => {
  const { url, folder } = await setting(t);
  const file = path.join(folder, 'large');
  await writeFile(file, Buffer.alloc(64 * 2 ** 20));
  const response = await globalThis.fetch(`${url}/fetch/nfs/nfs/large`, { headers: { ...callerHeaders({ fill: 'nfs' }) } });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  await reader.read();
  await truncate(file, 1024);
  await t.throwsAsync(async () => {
    for (;;) if ((await reader.read()).done) return;
  });
});

test.serial('shards that leave while files open do not end the service', async (t) => {
  const { url, folder, fetch } = await setting(t);
  await writeFile(path.join(folder, 'file'), Buffer.alloc(2 ** 20));
  const head = Object.entries(callerHeaders({ fill: 'nfs' })).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = `GET /fetch/nfs/nfs/file HTTP/1.1\r\nHost: x\r\n${head.join('')}\r\n`;
  const { hostname, port } = new URL(url);
  const leave = async (): Promise<void> => {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => undefined);
    socket.end(request);
    await once(socket, 'connect');
    socket.destroy();
  };
  for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 20 }, leave));
  t.is((await fetch('nfs', 'file')).status, 200);
});

test.serial('a list is in the order of whole names, by prefix and page, and ends with a mark', async (t) => {
  const { folder, outside, list } = await setting(t);
  for (const name of ['train/a.txt', 'train/a/1', 'train/a/2', 'train/b c', 'top']) await writeFile(path.join(folder, name), 'xy');
  await symlink(outside, path.join(folder, 'up'));
  const names = async (query: string) =>
    (await list(query)).map(({ key, end }) => key?.replace(/^nfs\//, '') ?? (end === true ? 'END' : '?'));
  t.deepEqual(await names(''), ['top', 'train/a.txt', 'train/a/1', 'train/a/2', 'train/b%20c', 'END']);
  t.deepEqual(await names('prefix=nfs/train/a'), ['train/a.txt', 'train/a/1', 'train/a/2', 'END']);
  t.deepEqual(await names('prefix=nfs/train/&after=nfs/train/a/1'), ['train/a/2', 'train/b%20c', 'END']);
  t.deepEqual(await names('prefix=nfs/train/b%2520'), ['train/b%20c', 'END']);
  t.deepEqual(await names('prefix=nfs/absent/'), ['END']);
  t.is((await list('prefix=nfs/top'))[0]?.size, 2);
});
