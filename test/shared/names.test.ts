/** Keys of file names, which the `kura` command and the Python package make alike. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import { keyOfFile } from '../../services/cli/transfer/file-key.ts';
import { canonicalKey, isKey } from '../../services/shared/key.ts';
import { findPeer } from '../support/peers.ts';

/** A name that is not UTF-8 has its bytes in hexadecimal digits. */
type NameVector = { readonly key: string } & ({ readonly name: string } | { readonly bytes: string });

const root = path.resolve(import.meta.dirname, '..', '..');
const vectors: readonly NameVector[] = JSON.parse(readFileSync(path.join(root, 'test', 'vectors', 'names.json'), 'utf8'));
const python = findPeer('python3', { debianPackage: 'python3' });

for (const vector of vectors) {
  test(`${JSON.stringify('name' in vector ? vector.name : vector.bytes)} has the key ${vector.key}, which Envoy does not change`, (t) => {
    t.true(isKey(vector.key));
    t.is(canonicalKey(vector.key), vector.key);
    // The command walks a folder, so its names begin without a slash.
    if ('name' in vector) t.is(keyOfFile('vision', vector.name.replace(/^\//, '')), vector.key);
  });
}

if (python !== undefined) {
  test('the Python package gives random names the keys of the command', async (t) => {
    const segment = fc.string({
      unit: fc.oneof(
        fc.constantFrom('%', '\\', '\x7f', ' ', '?', '#', '.', '+'),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
      ),
      minLength: 1,
    });
    const paths = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/'));
    const names = fc
      .sample(paths, 2_000)
      .filter((name) => !name.startsWith('/') && isKey(keyOfFile('vision', name)) && !name.includes('\0'));
    t.true(names.length > 1_000);
    // Without the package's own start, which imports urllib3.
    const script = `
import importlib, json, sys, types
sys.modules["kura"] = types.ModuleType("kura")
sys.modules["kura"].__path__ = [sys.argv[1]]
names = importlib.import_module("kura.names")
print(json.dumps([names.key_of(name, "vision") for name in json.load(sys.stdin)]))`;
    const folder = path.join(root, 'clients', 'python', 'kura');
    const running = promisify(execFile)(python, ['-c', script, folder], {
      env: { PYTHONDONTWRITEBYTECODE: '1', PYTHONUTF8: '1' },
      maxBuffer: 2 ** 24,
    });
    running.child.stdin?.end(JSON.stringify(names));
    t.deepEqual(
      JSON.parse((await running).stdout),
      names.map((name) => keyOfFile('vision', name)),
    );
  });
}
