/** Handles DELETE. */
import type { Result } from '../../counters.ts';
import { within } from '../../disk/deadline.ts';
import { ConditionError } from '../../store/condition.ts';
import { isConditional, mayWrite, type Version } from '../conditions.ts';
import type { ObjectRequest } from '../object-request.ts';
import type { ObjectService } from '../service.ts';
import { type Reply, refuse } from './reply.ts';

export async function handleDelete({ store, fills, health, budget }: ObjectService, request: ObjectRequest, reply: Reply): Promise<Result> {
  if (health.isReadOnly) return await refuse(reply, 'read-only');
  const condition = isConditional(request) ? (current: Version | undefined) => mayWrite(current, request) : undefined;
  let wasStored: boolean;
  try {
    const isFilling = fills?.supersede(request.key);
    wasStored = await within(budget.commitMs, store.remove(request.key, condition));
    // The fill may have been given its name meanwhile, and replaced the removed object. A conditional removal has waited for it.
    if (isFilling && condition === undefined) wasStored = (await within(budget.commitMs, store.remove(request.key))) || wasStored;
  } catch (error) {
    if (error instanceof ConditionError) return await refuse(reply, 'precondition-failed');
    health.note(error, 'write');
    await reply.refuse('disk-fault');
    return 'failed';
  }
  if (!wasStored) return await refuse(reply, 'miss');
  reply.send(204, []);
  return 'deleted';
}
