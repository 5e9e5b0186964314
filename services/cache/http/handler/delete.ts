/** DELETE. */
import type { Result } from '../../counters.ts';
import type { ObjectRequest } from '../object-request.ts';
import type { ObjectService } from '../service.ts';
import { type Reply, refuse } from './reply.ts';

export async function handleDelete({ store, health }: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  let wasStored: boolean;
  try {
    wasStored = await store.remove(request.key);
  } catch (error) {
    health.note(error, 'write');
    await reply.refuse('disk-fault');
    return 'failed';
  }
  if (!wasStored) return await refuse(reply, 'miss');
  reply.send(204, []);
  return 'deleted';
}
