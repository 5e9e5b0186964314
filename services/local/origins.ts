/** Pure: the origins of a local system, as `--origin` names them, and their document. */
import { isSeq, parseDocument, stringify } from 'yaml';
import { compileOrigins } from '../shared/origins.ts';

export interface LocalOrigin {
  /** Names the origin in metrics and in the log. */
  readonly name: string;
  /** Of keys. Ends with a slash. */
  readonly prefix: string;
  /** A folder, or a URL that ends with a slash. */
  readonly source: string;
}

const maxNameLength = 60;

/** Parses `PREFIX=DIR` or `PREFIX=URL`. Throws an Error for a form that no document could have; `directory` makes the path absolute. */
export function parseOrigin(
  text: string,
  { before, directory }: { before: readonly LocalOrigin[]; directory: (name: string) => string },
): LocalOrigin {
  const at = text.indexOf('=');
  const [prefix, source] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 1 || source === '') throw new Error(`"${text}" must be PREFIX=DIR or PREFIX=URL, such as _shared/imagenet/=/data/imagenet`);
  const isUrl = /^https?:\/\//.test(source);
  const origin = { name: nameOf(prefix, before), prefix, source: isUrl ? source.replace(/\/*$/, '/') : directory(source) };
  const compiled = compileOrigins(originsDocument([...before, origin]));
  if (compiled.kind === 'rejected') throw new Error(compiled.problems[0]?.message);
  return origin;
}

/** The document of ConfigMap kura-origins. */
export function originsDocument(origins: readonly LocalOrigin[]): string {
  return stringify({
    apiVersion: 'kura/v1',
    kind: 'Origins',
    origins: origins.map(({ name, prefix, source }) => ({ name, prefix, ...sourceOf(source) })),
  });
}

/**
 * Adds a rule to a policy for each origin that the policy does not mention: every workload may read it. The default rule covers the
 * prefixes of namespaces.
 */
export function withReadRules(policy: string, origins: readonly LocalOrigin[], namespaces: readonly string[]): string {
  const missing = origins.filter(({ prefix }) => !namespaces.includes(prefix.split('/', 1)[0] as string) && !policy.includes(prefix));
  const document = parseDocument(policy);
  const rules = document.get('rules');
  // authz reports a document that has no rules.
  if (missing.length === 0 || document.errors.length > 0 || !isSeq(rules)) return policy;
  for (const { name, prefix } of missing) {
    const rule = { name: `read-${name}`, subjects: [{ namespaces: ['*'] }], verbs: ['GET', 'HEAD', 'FILL', 'LIST'], keys: [prefix] };
    rules.add(document.createNode(rule));
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

function sourceOf(source: string): object {
  if (!/^https?:\/\//.test(source)) return { file: { path: source } };
  // The user names the host, so it may be this machine.
  const host = URL.parse(source)?.hostname;
  return { http: { url: source }, ...(host === undefined ? {} : { allowedHosts: [host] }) };
}

function nameOf(prefix: string, before: readonly LocalOrigin[]): string {
  const words = prefix.toLowerCase().match(/[a-z0-9]+/g) ?? ['origin'];
  const name = words.join('-').slice(0, maxNameLength).replace(/-$/, '');
  return before.some((other) => other.name === name) ? `${name.slice(0, maxNameLength - 4)}-${before.length + 1}` : name;
}
