import test from 'ava';
import { RequestLog } from '../../../services/cache/http/request-log.ts';
import type { Logger } from '../../../services/shared/log.ts';

const traceId = '0af7651916cd43dd8448eb211c80319c';
const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
const requestId = '8c934867-99fc-9089-9784-54d52489f1b0';

function setting() {
  const lines: object[] = [];
  const world = { now: 0 };
  const log = new RequestLog({ log: { info: (line: object) => lines.push(line) } as unknown as Logger, now: () => world.now });
  return { lines, world, log };
}

test('a sampled request is a line with its ids and its result', (t) => {
  const { lines, log } = setting();
  log.note({ method: 'GET', requestId, traceparent }, 'hit', 0.25);
  log.note({ method: 'PUT', requestId: 'eyJhbGciOiJSUzI1NiJ9', traceparent }, 'refused', 0.5);
  t.deepEqual(lines, [
    { request: { requestId, traceId, method: 'GET', result: 'hit', seconds: 0.25 } },
    { request: { requestId: undefined, traceId, method: 'PUT', result: 'refused', seconds: 0.5 } },
  ]);
});

test('other requests are no lines, and a flood of sampled ones is 200 lines a second', (t) => {
  const { lines, world, log } = setting();
  for (const other of [undefined, 'eyJ-01', traceparent.replace(/01$/, '00')])
    log.note({ method: 'GET', requestId, traceparent: other }, 'hit', 0);
  t.is(lines.length, 0);
  for (let round = 0; round < 1000; round += 1) log.note({ method: 'GET', requestId, traceparent }, 'hit', 0);
  t.is(lines.length, 200);
  world.now = 1000;
  log.note({ method: 'GET', requestId, traceparent }, 'hit', 0);
  t.is(lines.length, 201);
});
