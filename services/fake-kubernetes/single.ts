/** The verbs of one object and of its status: get, replace, patch, delete. */
import type { ClusterObjects, Deletion } from './cluster-objects.ts';
import { contentTypeOf, type Exchange, readBody, readObject, sendJson } from './exchange.ts';
import { isFields, type StoredObject } from './object.ts';
import { applyPatch, requirePatchType } from './patch.ts';
import { representationFor, whole } from './representation.ts';
import type { ResourcePath } from './resources.ts';
import { badRequest, detailsOf, methodNotAllowed, notServed, pathNotFound, success } from './status.ts';
import type { ObjectStore } from './store.ts';

export type ObjectPath = ResourcePath & { readonly name: string };

/** Serves a request for one object or its status. Throws ApiError. */
export async function handleSingle(
  { store, cluster }: { readonly store: ObjectStore; readonly cluster: ClusterObjects },
  exchange: Exchange,
  at: ObjectPath,
): Promise<void> {
  const { resource, subresource } = at;
  if (subresource === 'binding') throw notServed('binding');
  if (subresource !== undefined && !(subresource === 'status' && resource.hasStatus)) throw pathNotFound();
  const { method, message, response } = exchange;
  const representation = representationFor(resource, message.headers.accept);
  const part = subresource === 'status' ? 'status' : 'rest';
  switch (method) {
    case 'GET':
      return sendJson(response, 200, representation.object(store.get(resource, at)));
    case 'PUT': {
      const input = await readObject(exchange, resource.kind);
      return sendJson(response, 200, representation.object(cluster.update(resource, { previous: store.get(resource, at), input, part })));
    }
    case 'PATCH': {
      const type = requirePatchType(contentTypeOf(exchange));
      const patch = await readBody(exchange);
      // Nothing is awaited between this read and the update, so no other request can change the object.
      const previous = store.get(resource, at);
      const input = applyPatch(resource, { present: whole(resource).object(previous) as StoredObject, patch, type });
      return sendJson(response, 200, representation.object(cluster.update(resource, { previous, input, part })));
    }
    case 'DELETE': {
      if (part === 'status') throw methodNotAllowed();
      const deletion = await readDeletion(exchange);
      const { last, isGone } = cluster.delete(resource, store.get(resource, at), deletion);
      if (!isGone || resource.returnsDeleted) return sendJson(response, 200, representation.object(last));
      return sendJson(response, 200, success({ ...detailsOf(resource, at.name), uid: last.metadata.uid }));
    }
    default:
      throw methodNotAllowed();
  }
}

/** The options of a DELETE, from its query and its body (DeleteOptions). Throws ApiError (400 or 405). */
async function readDeletion(exchange: Exchange): Promise<Deletion> {
  const body = (await readBody(exchange)) ?? {};
  if (!isFields(body)) throw badRequest('the object provided is unrecognized (must be of type DeleteOptions)');
  if (body.dryRun) throw notServed('dryRun');
  const seconds = exchange.query.get('gracePeriodSeconds') ?? body.gracePeriodSeconds ?? undefined;
  if (seconds !== undefined && !/^\d{1,9}$/.test(String(seconds))) {
    throw badRequest(`gracePeriodSeconds is ${JSON.stringify(seconds)}; it must be a number of seconds`);
  }
  return {
    graceSeconds: seconds === undefined ? undefined : Number(seconds),
    preconditions: isFields(body.preconditions) ? body.preconditions : {},
  };
}
