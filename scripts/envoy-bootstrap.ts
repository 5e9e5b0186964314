/**
 * `npm run envoy:bootstrap -- [COMPONENT …]`: prints the bootstrap that Envoy gets with these components of k8s, for example
 * `npm run envoy:bootstrap -- tls ipv6`. In a cluster, services/envoy-bootstrap merges the same files.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fragmentNames, mergeFragments } from '../services/envoy-bootstrap/fragment.ts';

const root = path.resolve(import.meta.dirname, '..');
const components = path.join(root, 'k8s', 'components');

/** The names of the components with a fragment. */
export const componentsWithFragment = readdirSync(components).filter((name) => fragmentsOf(name).length > 0);

/** Throws an Error when a component has no fragment. */
export function bootstrapWith(names: readonly string[]): string {
  const files = names.flatMap((name) => {
    if (!componentsWithFragment.includes(name))
      throw new Error(`${name} has no fragment; the components with one are ${componentsWithFragment.join(', ')}`);
    return fragmentsOf(name);
  });
  const texts = new Map(files.map((file) => [path.basename(file), readFileSync(file, 'utf8')]));
  const fragments = fragmentNames([...texts.keys()]).map((name) => ({ name, text: texts.get(name) as string }));
  return mergeFragments(readFileSync(path.join(root, 'envoy', 'bootstrap.yaml'), 'utf8'), fragments);
}

function fragmentsOf(component: string): string[] {
  const folder = path.join(components, component);
  return readdirSync(folder)
    .filter((name) => /^fragment-.*\.yaml$/.test(name))
    .map((name) => path.join(folder, name));
}

if (import.meta.main) {
  try {
    process.stdout.write(bootstrapWith(process.argv.slice(2)));
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
