import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { replaceFile } from '../../services/shared/write-file.ts';
import { temporaryFolder } from '../support/service.ts';

test('a file is replaced with its mode, and no temporary file remains', async (t) => {
  const folder = await temporaryFolder(t);
  const file = path.join(folder, 'token');
  for (const [content, sync] of [
    ['first', false],
    ['second', true],
  ] as const) {
    await replaceFile(file, content, { mode: 0o600, sync });
    t.is(await readFile(file, 'utf8'), content);
    t.is((await stat(file)).mode & 0o777, 0o600);
  }
  t.deepEqual(await readdir(folder), ['token']);
});

test('a reader sees the old or the new content while the file is replaced many times', async (t) => {
  const file = path.join(await temporaryFolder(t), 'file');
  const contents = ['a', 'b'].map((letter) => letter.repeat(100_000));
  await writeFile(file, contents[0] as string);
  let isDone = false;
  const reads = (async () => {
    const seen = new Set<string>();
    while (!isDone) seen.add(await readFile(file, 'utf8'));
    return seen;
  })();
  for (let round = 0; round < 50; round += 1) await replaceFile(file, contents[round % 2] as string);
  isDone = true;
  for (const content of await reads) t.true(contents.includes(content));
});

test('a failed write leaves the file unchanged', async (t) => {
  const file = path.join(await temporaryFolder(t), 'file');
  await writeFile(file, 'old');
  await mkdir(`${file}.part`);
  await t.throwsAsync(replaceFile(file, 'new'), { code: 'EISDIR' });
  t.is(await readFile(file, 'utf8'), 'old');
});
