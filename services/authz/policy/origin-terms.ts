/** Pure: the origins, as authz needs them: which keys belong to an origin, and the terms with which a shard fetches them. */
import { compileOrigins } from '../../shared/origins.ts';
import type { FillTerms } from '../../shared/signed-terms.ts';
import type { Compiled } from '../../shared/strict-reader.ts';

export interface OriginTerms {
  /** Of keys. The prefixes of two origins do not overlap. */
  readonly prefix: string;
  readonly fill: FillTerms;
}

/** Without a document, no key has an origin. */
export const noOrigins: readonly OriginTerms[] = [];

export function compileOriginTerms(text: string): Compiled<readonly OriginTerms[]> {
  const compiled = compileOrigins(text);
  if (compiled.kind === 'rejected') return compiled;
  const value = compiled.value.map(({ name, prefix, share, revalidateMs }): OriginTerms => {
    const revalidateSeconds = revalidateMs === undefined ? undefined : Math.ceil(revalidateMs / 1000);
    return { prefix, fill: { origin: name, share, revalidateSeconds, isPrefetch: false } };
  });
  return { ...compiled, value };
}

/** `text`: a key, or a prefix whose keys are all of one origin. */
export function originOf(origins: readonly OriginTerms[], text: string): OriginTerms | undefined {
  return origins.find(({ prefix }) => text.startsWith(prefix));
}
