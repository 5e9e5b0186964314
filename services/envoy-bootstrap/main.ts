/**
 * Writes the bootstrap of Envoy before Envoy starts: `node services/envoy-bootstrap/main.ts SOURCE_DIRECTORY TARGET_FILE`. It merges every
 * `fragment-*.yaml` of the source into its `bootstrap.yaml`, in the order of their names (fragment.ts). Each component of k8s adds its fragment to the
 * ConfigMap, so components can be combined. An init container runs this program. Exit status 1: standard error has the fault in one line.
 */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fragmentNames, mergeFragments } from './fragment.ts';

const [source, target] = process.argv.slice(2);
try {
  if (source === undefined || target === undefined) throw new Error('two arguments are needed: SOURCE_DIRECTORY and TARGET_FILE');
  await writeBootstrap(source, target);
} catch (error) {
  console.error(`envoy-bootstrap: ${(error as Error).message}`);
  process.exitCode = 1;
}

async function writeBootstrap(from: string, to: string): Promise<void> {
  const names = fragmentNames(await readdir(from));
  const read = (name: string): Promise<string> => readFile(path.join(from, name), 'utf8');
  const fragments = await Promise.all(names.map(async (name) => ({ name, text: await read(name) })));
  await writeFile(to, mergeFragments(await read('bootstrap.yaml'), fragments));
  console.log(JSON.stringify({ service: 'envoy-bootstrap', msg: 'the bootstrap is written', fragments: names }));
}
