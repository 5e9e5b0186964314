/** One rule for names: what is typed is a name, and so is what a folder or a list holds. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { startKura } from './support/kura.ts';

type NameVector = { readonly key: string } & ({ readonly name: string } | { readonly bytes: string });

const root = path.resolve(import.meta.dirname, '..', '..');
const vectors: readonly NameVector[] = JSON.parse(readFileSync(path.join(root, 'test', 'vectors', 'names.json'), 'utf8'));
const main = path.join(root, 'services', 'cli', 'main.ts');
const latin = Buffer.from('latin-\xfc', 'latin1');

test.serial('a name that is typed has the key that the vectors give it', async (t) => {
  const { server, run } = await startKura(t);
  const names = vectors.flatMap((vector) => ('name' in vector ? [vector] : []));
  for (const { name } of names) await run(['put', '-', `--prefix=vision`, '--', name], { stdin: 'x' });
  t.deepEqual(
    server.requests.map(({ key }) => key),
    // A name that ends in a slash needs a file.
    names.filter(({ name }) => !name.endsWith('/')).map(({ key }) => key),
  );
});

test.serial('files of a folder are found again by their names', async (t) => {
  const { server, folder, run } = await startKura(t);
  await mkdir(path.join(folder, 'data'));
  const names = ['犬 100%.json', 'a%20b', 'a b', 'back\\slash', 'what?#1'];
  for (const name of names) await writeFile(path.join(folder, 'data', name), name);
  t.is((await run(['warm', 'data', 'vision/my data'])).status, 0);
  for (const name of names) {
    const { stdout } = await run(['get', `vision/my data/${name}`]);
    t.is(Buffer.from(stdout, 'latin1').toString(), name);
  }
  t.is(server.objects.size, names.length);
});

test.serial('put with a name that ends in a slash adds the name of the file', async (t) => {
  const { server, folder, run } = await startKura(t);
  await writeFile(path.join(folder, 'my 100%'), 'x');
  t.like(await run(['put', 'my 100%', 'vision/']), { status: 0, stdout: 'stored vision/my%20100%25, 1 B\n' });
  await run(['put', 'my 100%', 'vision/a%20b/', '--raw']);
  t.deepEqual([...server.objects.keys()], ['vision/my%20100%25', 'vision/a%20b/my%20100%25']);
  t.like(await run(['put', '-', 'vision/'], { stdin: 'x' }), {
    status: 2,
    stderr: 'kura: vision/ ends in a slash, but standard input has no name to add\n',
  });
});

test.serial('--raw takes encoded keys, and refuses what Envoy refuses', async (t) => {
  const { server, run } = await startKura(t);
  for (const [typed, key] of [
    ['my%20data/%28%c3%a4?x=1', 'vision/my%20data/(%C3%A4?x=1'],
    ['a%2520b', 'vision/a%2520b'],
  ] as const) {
    t.is((await run(['put', '-', typed, '--raw', '--prefix', 'vision'], { stdin: 'x' })).status, 0);
    t.deepEqual([...server.objects.keys()], [key]);
    server.objects.clear();
  }
  for (const typed of ['a b', 'ü', '50% off', 'a%2Fb', 'a%5cb', 'a%00']) {
    const { status, stderr } = await run(['get', typed, '--raw']);
    t.is(status, 2);
    t.is(
      stderr,
      `kura: ${JSON.stringify(typed)} is not an encoded key: it must be printable ASCII, and every % must begin an escape other than %00, %2F and %5C\n`,
    );
  }
});

test.serial('a name that is not UTF-8 works in a folder, in a list and as an argument', async (t) => {
  const { server, folder, home, tokenFile, run } = await startKura(t);
  const at = (name: string): Buffer => Buffer.concat([Buffer.from(`${folder}/${name}`), latin]);
  await mkdir(at('folder-'));
  await writeFile(Buffer.concat([at('folder-'), Buffer.from('/'), latin]), 'in a folder');
  await writeFile(at(''), 'a file');
  t.is((await run(['warm', '.', 'vision'])).status, 0);
  t.is(server.objects.get('vision/folder-latin-%FC/latin-%FC')?.toString(), 'in a folder');
  server.objects.clear();
  await writeFile(path.join(folder, 'list'), Buffer.concat([latin, Buffer.from('\r\nfolder-'), latin, Buffer.from('/'), latin]));
  t.is((await run(['warm', 'list', 'vision'])).status, 0);
  t.deepEqual([...server.objects.keys()].sort(), ['vision/folder-latin-%FC/latin-%FC', 'vision/latin-%FC']);

  // Node cannot pass such arguments to a child, but a shell can.
  const words = `node=$1 main=$2; f=$(printf 'latin-\\374'); "$node" "$main" put "$f" vision/copy/ && "$node" "$main" get "vision/copy/$f" -o "out-$f" && cat "out-$f"`;
  const environment = { PATH: process.env.PATH, HOME: home, KURA_SERVER: server.url, KURA_TOKEN_FILE: tokenFile };
  const shell = await promisify(execFile)('sh', ['-c', words, 'sh', process.execPath, main], { cwd: folder, env: environment });
  t.is(server.objects.get('vision/copy/latin-%FC')?.toString(), 'a file');
  t.regex(shell.stdout, /a file$/);
  const joined = `node=$1 main=$2; "$node" "$main" get a "--prefix=$(printf 'latin-\\374')"; test $? = 2`;
  const refused = await promisify(execFile)('sh', ['-c', joined, 'sh', process.execPath, main], { cwd: folder, env: environment });
  t.regex(refused.stderr, /^kura: latin-\uFFFD: an argument that is not UTF-8 must be a separate word, unlike --option=value\n$/);
});

test.serial('a refusal by the policy names the key and what the caller can use', async (t) => {
  const { server, folder, run } = await startKura(t);
  await mkdir(path.join(folder, 'data'));
  await writeFile(path.join(folder, 'data', 'a b'), 'x');
  const detail = 'the policy does not allow vision/trainer to PUT nlp/a%20b: it allows PUT under vision/';
  server.intercept = (request, response) => {
    request.resume();
    response.writeHead(403).end(JSON.stringify({ status: 403, code: 'forbidden', detail }));
    return true;
  };
  t.is((await run(['put', 'data/a b', 'nlp/'])).stderr, `kura put nlp/a%20b: 403 forbidden: ${detail}\n`);
  t.regex((await run(['warm', 'data', 'nlp', '--force'])).stdout, /failure: a b: PUT nlp\/a%20b returned 403 forbidden: /);
});
