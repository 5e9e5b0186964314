import test from 'ava';
import { readRequestId, readTraceparent } from '../../services/shared/trace-context.ts';

const [traceId, spanId] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
const token = 'eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl';

test('a traceparent of the W3C form is read, with its flag', (t) => {
  t.deepEqual(readTraceparent(`00-${traceId}-${spanId}-01`), { traceId, spanId, isSampled: true });
  t.is(readTraceparent(`00-${traceId}-${spanId}-03`)?.isSampled, true);
  t.is(readTraceparent(`00-${traceId}-${spanId}-02`)?.isSampled, false);
});

test('any other value is none', (t) => {
  for (const value of [
    undefined,
    '',
    token,
    [`00-${traceId}-${spanId}-01`],
    `00-${traceId}-${spanId}-01, 00-${traceId}-${spanId}-01`,
    `00-${traceId}-${spanId}`,
    `01-${traceId}-${spanId}-01`,
    `00-${traceId.toUpperCase()}-${spanId}-01`,
    `00-${'0'.repeat(32)}-${spanId}-01`,
    `00-${traceId}-${'0'.repeat(16)}-01`,
    `00-${traceId}-${spanId}-01\n`,
  ])
    t.is(readTraceparent(value), undefined, String(value));
});

test('only an id of the form that Envoy makes is a request id', (t) => {
  t.is(readRequestId('8c934867-99fc-9089-9784-54d52489f1b0'), '8c934867-99fc-9089-9784-54d52489f1b0');
  for (const value of [undefined, '', token, '8c93486799fc9089978454d52489f1b0', '8C934867-99FC-9089-9784-54D52489F1B0'])
    t.is(readRequestId(value), undefined, String(value));
});
