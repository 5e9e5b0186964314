/** The spelling of keys by envoy/grants.lua in the real Envoy: with the operators' bootstrap, and without Envoy's own path normalisation, so that the script decides alone. */
import test from 'ava';
import fc from 'fast-check';
import type { Document } from 'yaml';
import { objectsManager } from '../../services/local/bootstrap.ts';
import { canonicalKey } from '../../services/shared/key.ts';
import { call } from '../support/http.ts';
import { keyVectors, nearlyEscapes } from '../support/key-vectors.ts';
import { allow, everywhere, forbidden, grant, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

/** The key that authz and the shard get; null when Envoy rejects the request. */
async function keyBehind(rig: Rig, key: string): Promise<string | null> {
  rig.asked.length = 0;
  rig.recorder.requests.length = 0;
  const { status } = await call(`http://127.0.0.1:${rig.port}`, { path: `/objects/${key}`, token: tokenOf('a') });
  const [asked, ...others] = [...rig.asked.map(({ target }) => target), ...rig.recorder.requests.map(({ url }) => url)];
  if (status === 400 && asked === undefined) return null;
  if (status !== 404 || asked === undefined || others.length !== 1 || others[0] !== asked)
    throw new Error(`${status}, ${asked}, ${others}`);
  return asked.slice('/objects/'.length);
}

function withoutNormalisation(bootstrap: Document): void {
  const manager = objectsManager(bootstrap);
  manager.set('normalize_path', false);
  manager.set('path_with_escaped_slashes_action', 'KEEP_UNCHANGED');
}

test('authz and the shard get the canonical spelling of each vector', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(undefined);
  for (const { input, output, throughEnvoy = output } of keyVectors) t.is(await keyBehind(rig, input), throughEnvoy, input);
});

test('the script agrees with each vector and with canonicalKey, also where Envoy has not normalised the path', async (t) => {
  const rig = await startRig(t, { edit: withoutNormalisation });
  rig.decide = () => allow(undefined);
  for (const { input, output } of keyVectors) t.is(await keyBehind(rig, input), output, input);
  for (const key of fc.sample(nearlyEscapes, 300)) t.is(await keyBehind(rig, key), canonicalKey(key) ?? null, key);
});

test('each of the 256 escapes has one spelling, whatever the case of its digits', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(undefined);
  for (let byte = 0; byte < 256; byte += 1) {
    const digits = byte.toString(16).padStart(2, '0');
    const expected = canonicalKey(`vision/a%${digits}b`) ?? null;
    for (const spelling of [digits, digits.toUpperCase()]) t.is(await keyBehind(rig, `vision/a%${spelling}b`), expected, spelling);
  }
});

test('a malformed escape is a 400 with the code of other unacceptable requests, and authz is not asked', async (t) => {
  const rig = await startRig(t);
  for (const [key, reason] of [
    ['vision/%zz', /% must be followed by two hexadecimal digits/],
    ['vision/100%', /% must be followed by two hexadecimal digits/],
    ['vision/a%2fb', /path_normalization_failed/],
  ] as const) {
    const { status, headers, body } = await call(`http://127.0.0.1:${rig.port}`, { path: `/objects/${key}`, token: tokenOf('a') });
    t.is(status, 400, key);
    t.is(headers['content-type'], 'application/problem+json');
    const problem = JSON.parse(body.toString());
    t.like(problem, { status: 400, code: 'bad-request' }, key);
    t.regex(problem.detail, reason);
  }
  t.is(rig.asked.length, 0);
});

test('a grant and its denied prefixes hold for every spelling of a key', async (t) => {
  const rig = await startRig(t);
  rig.decide = ({ target }) =>
    target.slice(target.indexOf('/', 1)).startsWith('/vision/(secret)/')
      ? forbidden
      : allow(grant({ denied: everywhere(['vision/(secret)/']) }));
  const token = 'a';
  for (const key of ['vision/a%20(1)', 'vision/a%20%281%29', '%76ision/%61%20%28%31%29']) t.is(await rig.call({ key, token }), 404);
  t.is(rig.asked.length, 1);
  t.deepEqual([...new Set(rig.recorder.requests.map(({ url }) => url))], ['/objects/vision/a%20(1)']);
  for (const key of ['vision/(secret)/x', 'vision/%28secret%29/x', 'vision/%28%73ecret)/x'])
    for (const prefix of ['/objects/', '/direct/']) t.is(await rig.call({ key, prefix, token }), 403, prefix + key);
});

test('the spelling of the route counts too, with a check and with a grant', async (t) => {
  const rig = await startRig(t, { edit: withoutNormalisation });
  rig.decide = () => allow(grant());
  for (let round = 0; round < 2; round++) t.is(await rig.call({ prefix: '/%6Fbjects/', key: 'vision/a', token: 'a' }), 404);
  t.deepEqual(
    rig.recorder.requests.map(({ url }) => url),
    ['/objects/vision/a', '/objects/vision/a'],
  );
  t.is(rig.asked.length, 1);
});
