/** What is said of a token here, without the API's review: form, claims, and signature under the keys that the cluster shows. */
import { createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import test from 'ava';
import { ClusterKeys, createKeysReader, type KeysAnswer } from '../../../services/authz/identity/jwks.ts';
import { createLocalCheck } from '../../../services/authz/identity/jwt.ts';
import type { KubernetesClient } from '../../../services/shared/kubernetes.ts';
import { listen } from '../../../services/shared/listen.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const curves = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' } as const;
const second = 1_000;

function jwk(key: KeyObject, more: object): object {
  return { ...key.export({ format: 'jwk' }), use: 'sig', ...more };
}

function token(
  key: KeyObject,
  { header = {}, claims = {}, hash = 'sha256' }: { header?: object; claims?: object; hash?: string } = {},
): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'RS256', kid: 'a', ...header })}.${part({ aud: ['kura'], exp: 1_000, ...claims })}`;
  const signature = createSign(hash).update(signed).sign({ key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

/** A clock that the test sets, and the response of the API to a request for its keys. */
function setting(answer: KeysAnswer) {
  const world = { now: 0, answer, readings: 0 };
  const keys = new ClusterKeys({
    now: () => world.now,
    read: async () => {
      world.readings++;
      return world.answer;
    },
  });
  const check = createLocalCheck({ audience: 'kura', findKey: (id) => keys.find(id), now: () => world.now });
  return { world, check: async (presented: string) => (await check(presented)).kind };
}

const shown = (...keys: object[]): KeysAnswer => ({ kind: 'keys', set: { keys: keys as [] } });

test('every algorithm of a Kubernetes API is accepted, and a signature with the wrong key or hash is refused', async (t) => {
  const pairs = Object.entries(curves).map(([alg, namedCurve]) => ({ alg, ...generateKeyPairSync('ec', { namedCurve }) }));
  const { check } = setting(
    shown(jwk(rsa.publicKey, { kid: 'a', alg: 'RS256' }), ...pairs.map(({ alg, publicKey }) => jwk(publicKey, { kid: alg, alg }))),
  );
  t.is(await check(token(rsa.privateKey)), 'plausible');
  t.is(await check(token(rsa.privateKey, { hash: 'sha512' })), 'refused');
  for (const { alg, privateKey } of pairs) {
    const hash = alg.replace('ES', 'sha');
    t.is(await check(token(privateKey, { header: { alg, kid: alg }, hash })), 'plausible', alg);
    t.is(await check(token(privateKey, { header: { alg, kid: 'a' }, hash })), 'refused', `${alg} under another key's id`);
    t.is(await check(token(rsa.privateKey, { header: { alg, kid: alg } })), 'refused', `RSA as ${alg}`);
  }
});

test('a header with another algorithm, none, or an extension is refused, and so is every other spelling of a valid token', async (t) => {
  const { check } = setting(shown(jwk(rsa.publicKey, { kid: 'a', alg: 'RS256' })));
  for (const header of [{ alg: 'none' }, { alg: 'RS512' }, { alg: 'HS256' }, { crit: ['b64'] }]) {
    t.is(await check(token(rsa.privateKey, { header })), 'refused', JSON.stringify(header));
  }
  const good = token(rsa.privateKey);
  const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  // The same bytes, since four bits of the last digit count for nothing.
  const respelled = good.slice(0, -1) + digits[digits.indexOf(good.at(-1) as string) ^ 1];
  for (const other of [respelled, `${good}=`, `${good}.`, `${good}~`, good.replace('.', '=.'), ` ${good}`, `${good}.x.y`])
    t.is(await check(other), 'refused', other.slice(-6));
});

test('a symmetric key, a key of an unknown kind and an invalid key verify nothing, and the other keys of the set still do', async (t) => {
  const bad = [
    { kty: 'oct', k: 'c2VjcmV0', kid: 'o', alg: 'HS256' },
    { kty: 'OKP', crv: 'Ed25519', x: 'AAAA', kid: 'e', alg: 'EdDSA' },
    { kty: 'RSA', kid: 'r' },
    { kty: 'EC', kid: 'm', alg: 'RS256' },
  ];
  const { check } = setting(shown(...bad, jwk(rsa.publicKey, { kid: 'a' })));
  t.is(await check(token(rsa.privateKey)), 'plausible');
  for (const { kid } of bad) t.is(await check(token(rsa.privateKey, { header: { kid } })), 'refused', kid);
});

test('an unknown key id causes at most one read of the keys per second, and a new key is accepted', async (t) => {
  const { world, check } = setting(shown(jwk(rsa.publicKey, { kid: 'a' })));
  t.is(await check(token(rsa.privateKey)), 'plausible');
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const rotated = token(other.privateKey, { header: { kid: 'b' } });
  world.now += 999;
  for (let index = 0; index < 100; index++) t.is(await check(rotated), 'refused');
  t.is(world.readings, 1);
  world.answer = shown(jwk(rsa.publicKey, { kid: 'a' }), jwk(other.publicKey, { kid: 'b' }));
  world.now += 1;
  t.is(await check(rotated), 'plausible');
  t.is(world.readings, 2);
  world.answer = shown(jwk(other.publicKey, { kid: 'b' }));
  world.now += second;
  t.is(await check(token(rsa.privateKey, { header: { kid: 'c' } })), 'refused');
  t.is(await check(token(rsa.privateKey)), 'refused', 'the old key is no longer shown');
});

test('when the cluster hides its keys, signatures are not checked, and the keys are requested again after 30 s', async (t) => {
  const { world, check } = setting({ kind: 'hidden' });
  const forged = token(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  for (let index = 0; index < 10; index++) t.is(await check(forged), 'plausible');
  t.is(await check(token(rsa.privateKey, { claims: { aud: ['other'] } })), 'refused', 'the claims still are');
  t.is(world.readings, 1);
  world.answer = shown(jwk(rsa.publicKey, { kid: 'a' }));
  world.now += 30 * second;
  t.is(await check(forged), 'refused');
  t.is(world.readings, 2);
});

test('without any keys the API decides alone; later an unreadable set is unavailable for a new id and keeps known keys', async (t) => {
  const { world, check } = setting({ kind: 'unavailable' });
  t.is(await check(token(rsa.privateKey)), 'plausible');
  world.answer = shown(jwk(rsa.publicKey, { kid: 'a' }));
  world.now += second;
  t.is(await check(token(rsa.privateKey)), 'plausible');
  world.answer = { kind: 'unavailable' };
  world.now += second;
  t.is(await check(token(rsa.privateKey, { header: { kid: 'b' } })), 'unavailable');
  t.is(await check(token(rsa.privateKey)), 'plausible');
});

test('403 and 404 mean hidden keys, and every other response without a set means unavailable', async (t) => {
  const answers: [number, string, KeysAnswer['kind']][] = [
    [200, '{"keys":[]}', 'keys'],
    [403, '', 'hidden'],
    [404, '', 'hidden'],
    [500, '', 'unavailable'],
    [401, '', 'unavailable'],
    [200, '{"keys":', 'unavailable'],
    [200, '{}', 'unavailable'],
  ];
  let current = answers[0] as (typeof answers)[0] | undefined;
  const server = createServer((_request, response) => {
    if (current !== undefined) response.writeHead(current[0]).end(current[1]);
  });
  const { address, close } = await listen(server, { host: '127.0.0.1', port: 0 });
  t.teardown(async () => {
    server.closeAllConnections();
    await close();
  });
  const { request } = await import('undici');
  const client = { open: (path: string, { signal }: { signal: AbortSignal }) => request(`http://${address}${path}`, { signal }) };
  const read = createKeysReader(client as unknown as KubernetesClient, 200);
  for (const answer of answers) {
    current = answer;
    t.is((await read()).kind, answer[2], `${answer[0]} ${answer[1]}`);
  }
  current = undefined;
  t.is((await read()).kind, 'unavailable', 'silence');
});
