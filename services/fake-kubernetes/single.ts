/** The verbs of one object: read, replace, patch, delete. */
import type { ClusterObjects, Deletion } from './cluster-objects.ts';
import { asKept } from './event-versions.ts';
import { answer, type Exchange, readBody, readObject } from './exchange.ts';
import { isFields, type ObjectInput, type StoredObject } from './object.ts';
import { applyPatch, requirePatchType } from './patch.ts';
import { representationFor, whole } from './representation.ts';
import type { ResourcePath } from './resources.ts';
import { badRequest, detailsOf, methodNotAllowed, pathNotFound, success } from './status.ts';
import type { ObjectStore } from './store.ts';

export type ObjectPath = ResourcePath & { readonly name: string };

/** Answers a request for one object or its status. Throws ApiError. */
export function createSingle({ store, cluster }: { store: ObjectStore; cluster: ClusterObjects }) {
  return async (exchange: Exchange, at: ObjectPath): Promise<void> => {
    const { resource, subresource } = at;
    if (subresource !== undefined && !(subresource === 'status' && resource.hasStatus)) throw pathNotFound();
    const { method, message, response } = exchange;
    const representation = representationFor(resource, message.headers.accept);
    switch (method) {
      case 'GET':
        return answer(response, 200, representation.object(store.get(resource, at)));
      case 'PUT': {
        const input = await readObject(exchange, resource.kind);
        return answer(response, 200, representation.object(update(exchange, at, { previous: store.get(resource, at), input })));
      }
      case 'PATCH': {
        const contentType = requirePatchType(message.headers['content-type']);
        const patch = await readBody(exchange);
        // From here on nothing waits: what was read is what is replaced.
        const previous = store.get(resource, at);
        const input = applyPatch({ resource, present: whole(resource).object(previous) as StoredObject, patch, contentType });
        return answer(response, 200, representation.object(update(exchange, at, { previous, input })));
      }
      case 'DELETE': {
        if (subresource !== undefined) throw methodNotAllowed();
        const deletion = await readDeletion(exchange);
        const { last, gone } = cluster.delete(resource, store.get(resource, at), deletion);
        if (!gone || resource.answersDeleted) return answer(response, 200, representation.object(last));
        return answer(response, 200, success({ ...detailsOf(resource, at.name), uid: last.metadata.uid }));
      }
      default:
        throw methodNotAllowed();
    }
  };

  function update(
    { query }: Exchange,
    { resource, subresource }: ObjectPath,
    { previous, input }: { previous: StoredObject; input: ObjectInput },
  ): StoredObject {
    const part = subresource === 'status' ? 'status' : 'rest';
    return cluster.update(resource, { previous, input: asKept(resource, input), part, dryRun: query.get('dryRun') === 'All' });
  }
}

/** What a DELETE asks for, in its query and its body (DeleteOptions). Throws ApiError (400). */
export async function readDeletion(exchange: Exchange): Promise<Deletion> {
  const body = await readBody(exchange);
  if (body !== undefined && !isFields(body)) throw badRequest('the object provided is unrecognized (must be of type DeleteOptions)');
  const { query } = exchange;
  const asked = query.get('gracePeriodSeconds') ?? (body?.gracePeriodSeconds as number | null | undefined);
  if (asked !== undefined && asked !== null && !/^\d{1,9}$/.test(String(asked)))
    throw badRequest('gracePeriodSeconds is no number of seconds');
  const preconditions = isFields(body?.preconditions) ? (body.preconditions as NonNullable<Deletion['preconditions']>) : undefined;
  const inBody = Array.isArray(body?.dryRun) && body.dryRun.includes('All');
  return {
    graceSeconds: asked === undefined || asked === null ? undefined : Number(asked),
    preconditions,
    dryRun: inBody || query.get('dryRun') === 'All',
  };
}
