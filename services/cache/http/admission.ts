/** Who may go on with a request that came by Node's parser, and what it asks for. plain-connection.ts does the same for plain ones. */
import type { IncomingMessage } from 'node:http';
import { readShare } from '../index/shares.ts';
import type { Asked } from './direct.ts';
import type { ProblemCode } from './problems.ts';
import type { ObjectService } from './service.ts';
import type { ShardTarget } from './target.ts';

/** By Envoy's credential, or by a ticket: then who asks, and for what, is what the ticket says. */
export function admit(service: ObjectService, request: IncomingMessage, target: ShardTarget): Asked | ProblemCode {
  const { credentials, direct, counters } = service;
  const { method = '', headers } = request;
  if (target.kind === 'ticket' && direct !== undefined) {
    const redeemed = direct.redeem({ method, key: target.key }, target.ticket);
    counters.tickets[redeemed.kind] += 1;
    return redeemed.kind === 'used' ? redeemed.asked : 'bad-ticket';
  }
  if (!credentials.accepts(single(headers['x-kura-credential']))) {
    counters.badCredentials += 1;
    return 'bad-credential';
  }
  if (target.kind === 'bad-key') return 'bad-key';
  if (target.kind !== 'key') return 'no-such-path';
  const limit = single(headers['x-kura-max-object-bytes']);
  if (limit !== undefined && !/^\d{1,15}$/.test(limit)) return 'bad-header';
  const share = single(headers['x-kura-max-share']);
  const maxShare = share === undefined ? undefined : readShare(share);
  if (share !== undefined && maxShare === undefined) return 'bad-header';
  return {
    method,
    key: target.key,
    version: undefined,
    way: target.isDirect && isFreeToGo(headers) ? 'direct' : 'objects',
    namespace: single(headers['x-kura-namespace']),
    serviceAccount: single(headers['x-kura-service-account']),
    maxObjectBytes: limit === undefined ? undefined : Number(limit),
    maxShare,
  };
}

/** A shard speaks no TLS, so nothing that came to Envoy by it may go there; and what authz counts as it passes has to pass (`x-kura-direct: no`). */
export function isFreeToGo(headers: IncomingMessage['headers']): boolean {
  return (headers['x-forwarded-proto'] ?? 'http') === 'http' && headers['x-kura-direct'] === undefined;
}

/** Node joins the lines of a field with a comma, which no credential that comes twice survives. */
function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? undefined : value;
}
