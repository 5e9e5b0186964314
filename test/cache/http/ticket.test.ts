import { createSecretKey, randomBytes, randomInt } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { Direct } from '../../../services/cache/http/direct.ts';
import type { Terms } from '../../../services/cache/http/object-request.ts';
import { readTarget } from '../../../services/cache/http/target.ts';
import { openTicket, sealTicket, type Ticket, type Transfer } from '../../../services/cache/http/ticket.ts';
import type { OpenObject } from '../../../services/cache/store/open-object.ts';
import type { Key } from '../../../services/shared/key.ts';

const key = 'vision/a' as Key;
const object = { key, length: 1_000_000, tag: '"1000000-0-1"' } as OpenObject;
const whole = { kind: 'whole', start: 0, end: 1_000_000 } as const;
const terms: Terms = {
  version: undefined,
  fill: undefined,
  route: 'direct',
  namespace: 'vision',
  serviceAccount: 'trainer',
  pod: 'train-0',
  maxObjectBytes: 2_000_000,
  maxShare: 0.5,
};
const get: Transfer & Terms = { ...terms, method: 'GET', key };
const put: Transfer & Terms = { ...terms, method: 'PUT', key };

function makeDirect() {
  const clock = { ms: 0 };
  return { clock, direct: new Direct({ address: () => '10.0.0.1:7000', minBytes: 1000, lifeMs: 10_000, now: () => clock.ms }) };
}

/** The ticket in a location. */
function ticketOf(location: string | undefined): string {
  const target = readTarget((location ?? '').replace('http://10.0.0.1:7000', ''));
  return target.kind === 'ticket' ? target.ticket : '';
}

test('a ticket for GET returns the terms of its request and the version until it expires', (t) => {
  const { clock, direct } = makeDirect();
  const location = direct.locateRead(get, object, whole);
  t.regex(location ?? '', /^http:\/\/10\.0\.0\.1:7000\/ticket\/[\w-]+\.[\w-]+\/objects\/vision\/a$/);
  for (const ms of [0, 5_000, 9_999]) {
    clock.ms = ms;
    t.deepEqual(direct.redeem({ method: 'GET', key }, ticketOf(location)), {
      kind: 'used',
      terms: { ...terms, version: object.tag, route: 'ticket' },
    });
  }
  clock.ms = 10_000;
  t.deepEqual(direct.redeem({ method: 'GET', key }, ticketOf(location)), { kind: 'expired' });
});

test('a ticket is rejected for another method or key, by another shard, and by the same shard after a restart', (t) => {
  const { direct } = makeDirect();
  const ticket = ticketOf(direct.locateRead(get, object, whole));
  const refused = { kind: 'refused' } as const;
  for (const method of ['HEAD', 'PUT', 'DELETE', 'POST', 'get', '']) t.deepEqual(direct.redeem({ method, key }, ticket), refused, method);
  for (const other of ['vision/b', 'vision/a/', 'vision/', 'nlp/a', 'VISION/a', 'undefined'])
    t.deepEqual(direct.redeem({ method: 'GET', key: other as Key }, ticket), refused, other);
  t.deepEqual(direct.redeem({ method: 'GET', key: undefined }, ticket), refused);
  t.deepEqual(makeDirect().direct.redeem({ method: 'GET', key }, ticket), refused);
});

test('a ticket that was cut, forged, or edited in a thousand ways is rejected', (t) => {
  const { direct } = makeDirect();
  const ticket = ticketOf(direct.locateRead(get, object, whole));
  const redeem = (text: string) => direct.redeem({ method: 'GET', key }, text).kind;
  t.is(redeem(ticket), 'used');
  for (let length = 0; length < ticket.length; length += 1) t.is(redeem(ticket.slice(0, length)), 'refused');
  const [content, seal] = ticket.split('.') as [string, string];
  const forged = Buffer.from(JSON.stringify([1e12, undefined, undefined, 'nlp'])).toString('base64url');
  for (const text of [
    '.',
    `${content}.`,
    `.${seal}`,
    `${forged}.${seal}`,
    `${content}.${forged}`,
    `${ticket}.`,
    `${ticket}=`,
    ` ${ticket}`,
  ])
    t.is(redeem(text), 'refused', text);
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/~ é';
  const letter = () => letters[randomInt(letters.length)] as string;
  let edits = 0;
  while (edits < 1000) {
    const at = randomInt(ticket.length);
    const edit = randomInt(4);
    const edited =
      edit === 0
        ? ticket.slice(0, at) + letter() + ticket.slice(at + 1)
        : edit === 1
          ? ticket.slice(0, at) + letter() + ticket.slice(at)
          : edit === 2
            ? ticket.slice(0, at) + ticket.slice(at + 1)
            : ticket.slice(at) + ticket.slice(0, at);
    if (edited === ticket) continue;
    edits += 1;
    t.is(redeem(edited), 'refused', edited);
  }
});

test('a ticket for PUT is valid once, also after an attempt with another method', (t) => {
  const { clock, direct } = makeDirect();
  const [first, second] = [ticketOf(direct.locateUpload(put, 1_000_000)), ticketOf(direct.locateUpload(put))];
  t.not(first, second);
  const redeem = (text: string) => direct.redeem({ method: 'PUT', key }, text).kind;
  t.is(direct.redeem({ method: 'GET', key }, first).kind, 'refused');
  t.deepEqual([redeem(first), redeem(first), redeem(second), redeem(second)], ['used', 'refused', 'used', 'refused']);
  const late = ticketOf(direct.locateUpload(put));
  clock.ms += 10_000;
  t.is(redeem(late), 'expired');
  // The shard drops the expired ticket here, and the result is the same.
  direct.locateUpload(put);
  t.is(redeem(late), 'expired');
});

test('the number of unused tickets for PUT is limited: further uploads go through Envoy until tickets expire', (t) => {
  const { clock, direct } = makeDirect();
  for (let at = 0; at < 65_536; at += 1) direct.locateUpload(put);
  t.is(direct.locateUpload(put), undefined);
  clock.ms += 10_000;
  t.truthy(direct.locateUpload(put));
});

test('only a large body under /direct/ is redirected', (t) => {
  const { direct } = makeDirect();
  const small = { ...object, length: 999 } as OpenObject;
  t.truthy(direct.locateRead(get, { ...object, length: 1000 } as OpenObject, whole));
  t.truthy(direct.locateRead(get, object, { kind: 'part', start: 0, end: 1 }));
  t.is(direct.locateRead(get, small, whole), undefined);
  t.is(direct.locateRead({ ...get, method: 'HEAD' }, object, whole), undefined);
  for (const kind of ['not-modified', 'unsatisfiable'] as const) t.is(direct.locateRead(get, object, { kind }), undefined);
  for (const change of [{ route: 'objects' }, { route: 'ticket' }] as const) {
    t.is(direct.locateRead({ ...get, ...change }, object, whole), undefined);
    t.is(direct.locateUpload({ ...put, ...change }), undefined);
  }
  t.is(direct.locateUpload(put, 999), undefined);
});

test('every ticket returns its fields, and only with its own secret and transfer', (t) => {
  const text = fc.option(fc.string({ maxLength: 40 }), { nil: undefined });
  const ticket: fc.Arbitrary<Ticket> = fc.record({
    endsMs: fc.nat(),
    version: text,
    nonce: text,
    namespace: text,
    serviceAccount: text,
    pod: text,
    maxObjectBytes: fc.option(fc.nat(), { nil: undefined }),
    maxShare: fc.option(fc.double({ min: 0.01, max: 1, noNaN: true }), { nil: undefined }),
  });
  const keys = fc.string({ unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code)), minLength: 1 });
  const [secret, other] = [createSecretKey(randomBytes(32)), createSecretKey(randomBytes(32))];
  fc.assert(
    fc.property(ticket, fc.constantFrom('GET', 'PUT'), keys, keys, (one, method, name, otherName) => {
      const transfer = { method, key: name as Key };
      const sealed = sealTicket(secret, transfer, one);
      t.deepEqual(openTicket(secret, transfer, sealed), one);
      t.is(openTicket(other, transfer, sealed), undefined);
      if (name !== otherName) t.is(openTicket(secret, { method, key: otherName as Key }, sealed), undefined);
    }),
  );
});
