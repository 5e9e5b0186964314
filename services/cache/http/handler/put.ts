/** PUT. */
import type { Result } from '../../counters.ts';
import { maxContentTypeBytes, maxNamespaceBytes } from '../../disk/trailer.ts';
import type { ObjectRequest } from '../object-request.ts';
import { receivePut } from '../receive-put.ts';
import type { ObjectService } from '../service.ts';
import { type Reply, redirect, refuse } from './reply.ts';

export async function handlePut(service: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  const { store, direct, health } = service;
  const { key, length, maxShare } = request;
  const maxObjectBytes = request.maxObjectBytes ?? Number.POSITIVE_INFINITY;
  if (length !== undefined && length > maxObjectBytes) return await refuse(reply, 'too-large');
  const location = reply.isAwaited ? direct?.locateUpload(request, length) : undefined;
  if (location !== undefined) return redirect(reply, location);
  const contentType = keep(request.contentType, maxContentTypeBytes);
  const namespace = keep(request.namespace, maxNamespaceBytes);
  const put = { key, length, contentType, namespace, maxObjectBytes, maxShare };
  const outcome = await receivePut({ store, put, body: reply.body, health });
  switch (outcome.kind) {
    case 'stored':
      reply.send(201, ['etag', outcome.tag, 'content-length', '0']);
      return 'stored';
    case 'not-kept':
      reply.send(201, ['x-kura-stored', 'no', 'content-length', '0']);
      return 'notStored';
    case 'refused':
      await reply.refuse(outcome.code);
      return 'refused';
    default:
      return outcome satisfies never;
  }
}

/** What the trailer has room for; a longer value, or one beyond printable ASCII, is not kept. */
function keep(value: string | undefined, maxBytes: number): string {
  return value !== undefined && value.length <= maxBytes && /^[\x20-\x7e]*$/.test(value) ? value : '';
}
