/** Pure: parses the request targets of a shard: objects, objects for clients that follow redirects (`/direct/`), and tickets. */
import { type Key, type ParsedTarget, parseTarget } from '../../shared/key.ts';

export type ShardTarget =
  | ParsedTarget
  /** Every target under `/ticket/`, which needs no signed caller. Without a key no ticket is valid. */
  | { readonly kind: 'ticket'; readonly ticket: string; readonly key: Key | undefined };

const ticketPath = '/ticket/';

/** Parses a request target in origin form. */
export function readTarget(target: string): ShardTarget {
  if (!target.startsWith(ticketPath)) return parseTarget(target);
  const end = target.indexOf('/', ticketPath.length);
  const rest = end === -1 ? undefined : parseTarget(target.slice(end));
  const key = rest?.kind === 'key' && rest.route === 'objects' ? rest.key : undefined;
  return { kind: 'ticket', ticket: target.slice(ticketPath.length, end === -1 ? undefined : end), key };
}

export function ticketTarget(ticket: string, key: Key): string {
  return `${ticketPath}${ticket}/objects/${key}`;
}
