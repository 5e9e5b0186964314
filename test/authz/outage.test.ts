import test from 'ava';
import type { ReviewAnswer } from '../../services/authz/identity/token-review.ts';
import { ApiOutage } from '../../services/authz/outage.ts';
import type { Logger } from '../../services/shared/log.ts';

test('an outage is logged once when it starts and once when the API responds again', async (t) => {
  const lines: string[] = [];
  const write = (line: string): number => lines.push(line);
  const outage = new ApiOutage({ log: { warn: write, info: write } as unknown as Logger });
  let answer: ReviewAnswer = { kind: 'unavailable', reason: 'silence' };
  const review = outage.watchReviews(async () => answer);
  const ask = () => review('the token', { bypassServerCache: false });
  t.is(await ask(), answer);
  t.deepEqual(lines, []);
  outage.servedDuringOutage();
  outage.servedDuringOutage();
  await ask();
  t.is(lines.length, 1);
  t.regex(lines[0] ?? '', /does not respond/);
  answer = { kind: 'refused', reason: 'the token is not valid' };
  t.is(await ask(), answer);
  await ask();
  t.is(lines.length, 2);
  t.regex(lines[1] ?? '', /responds again/);
});
