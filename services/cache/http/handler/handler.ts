/** Answers one admitted request. Both HTTP edges use it; the result is what they count. */
import type { Result } from '../../counters.ts';
import type { ObjectRequest } from '../object-request.ts';
import type { ObjectService } from '../service.ts';
import { handleDelete } from './delete.ts';
import { handlePut } from './put.ts';
import { handleRead } from './read.ts';
import { type Reply, refuse } from './reply.ts';

const allowedMethods = 'GET, HEAD, PUT, DELETE';

/** Resolves when the response is written. Rejects when the transfer broke off: then the edge must cut the connection and count `failed`. */
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
