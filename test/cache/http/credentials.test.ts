import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import { startCacheProcess } from '../support/process.ts';
import { metric, startTestShard, temporaryDirectory } from '../support/shard.ts';

const first = 'first-credential-0123456789';
const second = 'second-credential-0123456789';

async function withFile(t: ExecutionContext, text: string) {
  const file = path.join(await temporaryDirectory(t), 'credential');
  await writeFile(file, text);
  return { file, shard: await startTestShard(t, { environment: { KURA_CACHE_CREDENTIAL_FILE: file } }) };
}

const headers = (credential: string) => ({ 'x-kura-credential': credential });

test('without a known credential nothing is read or written, on either parser; health needs none', async (t) => {
  const { shard } = await withFile(t, `${first}\n`);
  const requests = [
    { path: '/objects/a' },
    { path: '/objects/a', method: 'HEAD' },
    { path: '/objects/a', method: 'DELETE' },
    { path: '/objects/a', method: 'PUT', body: 'x', headers: { 'content-length': 1 } },
    { path: '/objects/a', method: 'PUT', body: 'x', headers: { 'transfer-encoding': 'chunked' } },
    { path: '/objects/a', method: 'PUT', body: Buffer.alloc(3_000_000), headers: { 'content-length': 3_000_000 } },
    { path: '/objects/a', method: 'PUT', body: 'x', expect: true },
    { path: '/other' },
  ];
  for (const credential of [undefined, '', 'wrong-credential-0123456789', first.slice(0, -1), `${first}x`, `${first}, ${first}`]) {
    for (const each of requests) {
      const answer = await call(shard.url, {
        ...each,
        headers: { ...each.headers, ...(credential === undefined ? {} : headers(credential)) },
      });
      t.is(answer.status, 401, JSON.stringify([credential, each.method, each.path]));
      if (each.method !== 'HEAD') t.is(JSON.parse(answer.body.toString()).code, 'bad-credential');
      t.false(answer.bodySent && each.expect === true);
    }
  }
  t.is(await metric(shard, 'kura_cache_objects'), 0);
  t.is(await metric(shard, 'kura_cache_bad_credentials_total'), 6 * requests.length);
  t.is((await call(shard.url, { path: '/healthz' })).status, 200);
  t.is((await call(shard.url, { method: 'PUT', path: '/objects/a', body: 'x', headers: headers(first) })).status, 201);
  t.is((await call(shard.url, { path: '/objects/a', headers: headers(first) })).body.toString(), 'x');
  t.is(
    (await call(shard.url, { method: 'PUT', path: '/objects/b', body: 'x', headers: { ...headers(first), 'content-length': 1 } })).status,
    201,
  );
});

test('a rotation with two valid at once refuses nobody, and connections that are open follow it', async (t) => {
  const { file, shard } = await withFile(t, first);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const ask = (credential: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const outgoing = request(`${shard.url}/objects/a`, { agent, headers: headers(credential) }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode as number));
      });
      outgoing.on('error', reject).end();
    });
  t.deepEqual([await ask(first), await ask(second)], [404, 401]);
  await writeFile(file, `${second}\n${first}\n`);
  await waitFor('the new one is known', async () => (await ask(second)) === 404);
  t.is(await ask(first), 404);
  await writeFile(`${file}.new`, second);
  await rename(`${file}.new`, file);
  await waitFor('the old one is not', async () => (await ask(first)) === 401);
  t.is(await ask(second), 404);
});

test('a Secret’s links that are swapped are followed; a file that goes bad or away changes nothing', async (t) => {
  const folder = await temporaryDirectory(t);
  for (const [name, text] of [
    ['v1', first],
    ['v2', second],
    ['v3', 'short'],
  ] as const) {
    await mkdir(path.join(folder, name));
    await writeFile(path.join(folder, name, 'credential'), text);
  }
  const swap = async (name: string): Promise<void> => {
    await symlink(name, path.join(folder, 'next'));
    await rename(path.join(folder, 'next'), path.join(folder, '..data'));
  };
  await swap('v1');
  const file = path.join(folder, 'credential');
  await symlink('..data/credential', file);
  const shard = await startCacheProcess(t, { KURA_CACHE_DIRECTORY: path.join(folder, 'shard'), KURA_CACHE_CREDENTIAL_FILE: file });
  const url = `http://${shard.listening.objects}`;
  const status = async (credential: string): Promise<number> =>
    (await call(url, { path: '/objects/a', headers: headers(credential) })).status;
  t.is(await status(first), 404);
  await swap('v2');
  await waitFor('the second one is known', async () => (await status(second)) === 404);
  await swap('v3');
  await waitFor('it is told', () => shard.output().includes('a credential is not 16 to 1,024 bytes'));
  await rm(file);
  await waitFor('it is told', () => shard.output().includes('ENOENT'));
  t.deepEqual([await status(second), await status(first), await status('short')], [404, 401, 401]);
});

test('a shard does not start without a word on credentials, or with a file that is not good', async (t) => {
  const folder = await temporaryDirectory(t);
  const file = path.join(folder, 'credential');
  const start = (environment: Record<string, string>) =>
    t.throwsAsync(startCacheProcess(t, { KURA_CACHE_DIRECTORY: path.join(folder, 'shard'), ...environment }));
  t.regex((await start({ KURA_CACHE_CREDENTIAL_FILE: '' }))?.message ?? '', /KURA_CACHE_CREDENTIAL_FILE/);
  t.regex((await start({ KURA_CACHE_CREDENTIAL_FILE: file }))?.message ?? '', /ENOENT/);
  for (const [text, complaint] of [
    ['', /it holds 0 credentials/],
    ['a'.repeat(15), /not 16 to 1,024 bytes/],
    [`${first}\n${second}\nthird-credential-0123456789\n`, /it holds 3 credentials/],
    ['with a space 0123456789', /not 16 to 1,024 bytes/],
  ] as const) {
    await writeFile(file, text);
    const message = (await start({ KURA_CACHE_CREDENTIAL_FILE: file }))?.message ?? '';
    t.regex(message, complaint);
    if (text !== '') t.false(message.includes(text));
  }
});
