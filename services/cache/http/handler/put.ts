/** Handles PUT. */
import type { Result } from '../../counters.ts';
import { maxContentEncodingBytes, maxContentTypeBytes, maxNamespaceBytes, maxWriterBytes } from '../../disk/trailer.ts';
import type { SizeLimit } from '../../index/catalog.ts';
import { isConditional, mayWrite, type Version } from '../conditions.ts';
import type { ObjectRequest } from '../object-request.ts';
import { receivePut } from '../receive-put.ts';
import type { ObjectService } from '../service.ts';
import { type Reply, redirect, refuse } from './reply.ts';

export async function handlePut(service: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  const { store, direct, health, budget } = service;
  const { key, length, maxShare, digests } = request;
  const maxObjectBytes = request.maxObjectBytes ?? Number.POSITIVE_INFINITY;
  if (length !== undefined && length > maxObjectBytes) return await refuseTooLarge(reply, { maxBytes: maxObjectBytes, setBy: 'policy' });
  if (health.isReadOnly) return await refuse(reply, 'read-only');
  const location = reply.isAwaited ? direct?.locateUpload(request, length) : undefined;
  if (location !== undefined) return redirect(reply, location);
  const put = {
    key,
    length,
    maxObjectBytes,
    maxShare,
    digests,
    contentType: keep(request.contentType, maxContentTypeBytes),
    contentEncoding: keep(request.contentEncoding, maxContentEncodingBytes),
    namespace: keep(request.namespace, maxNamespaceBytes),
    serviceAccount: keep(request.serviceAccount, maxWriterBytes),
    pod: keep(request.pod, maxWriterBytes),
    condition: isConditional(request) ? (current: Version | undefined) => mayWrite(current, request) : undefined,
  };
  const isFilling = service.fills?.supersede(key) ?? false;
  const outcome = await receivePut({ store, put, isFilling, body: reply.body, health, budget });
  switch (outcome.kind) {
    case 'stored':
      reply.send(201, ['etag', outcome.tag, 'content-length', '0']);
      return 'stored';
    case 'not-kept':
      reply.send(201, ['x-kura-stored', 'no', 'content-length', '0']);
      return 'notStored';
    case 'too-large':
      return await refuseTooLarge(reply, outcome.limit);
    case 'refused':
      await reply.refuse(outcome.code);
      return 'refused';
    default:
      return outcome satisfies never;
  }
}

const limitOwners: Readonly<Record<SizeLimit['setBy'], string>> = {
  policy: 'The policy',
  share: 'The share of its namespace on this shard',
  shard: 'This shard (KURA_CACHE_MAX_OBJECT_PERCENT)',
};

async function refuseTooLarge(reply: Reply, { maxBytes, setBy }: SizeLimit): Promise<Result> {
  await reply.refuse('too-large', [], `${limitOwners[setBy]} limits an object to ${maxBytes} bytes.`);
  return 'refused';
}

/** Returns an empty string for a value that is too long for the trailer or not printable ASCII. */
function keep(value: string | undefined, maxBytes: number): string {
  return value !== undefined && value.length <= maxBytes && /^[\x20-\x7e]*$/.test(value) ? value : '';
}
