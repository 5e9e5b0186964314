/** Answers one admitted request. Both HTTP edges use it and count its result. */
import type { Result } from '../../counters.ts';
import type { ObjectRequest } from '../object-request.ts';
import type { ObjectService } from '../service.ts';
import { handleDelete } from './delete.ts';
import { handlePut } from './put.ts';
import { handleRead } from './read.ts';
import { type Reply, refuse } from './reply.ts';

export const allowedMethods = 'GET, HEAD, PUT, DELETE';

/** Resolves when the response is written. Rejects if the transfer broke: then the edge must cut the connection and count `failed`. */
export async function handleObject(service: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      return await handleRead(service, request, reply);
    case 'PUT':
      return await handlePut(service, request, reply);
    case 'DELETE':
      return await handleDelete(service, request, reply);
    default:
      return await refuse(reply, 'method-not-allowed', ['allow', allowedMethods]);
  }
}
