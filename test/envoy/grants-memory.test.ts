/** The memory of envoy/grants.lua in the real Envoy: bounded in number and in time, whatever the tokens. */
import { on } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import test from 'ava';
import type { Document } from 'yaml';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { allow, grant, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

test('20,000 spellings of one token ask authz nothing and take no memory', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant());
  const token = tokenOf('a'.repeat(1_000));
  t.is(await rig.call({ authorization: `Bearer ${token}` }), 404);
  const spellings = Array.from({ length: 20_000 }, (_, index) => {
    const scheme = [...'bearer'].map((letter, at) => ((index >> at) & 1 ? letter.toUpperCase() : letter)).join('');
    return `${scheme}${' '.repeat(2 + (index >> 6))}${token}`;
  });
  await flood(rig.port, spellings);
  t.is(rig.asked.length, 1);
  t.log(`${resident(rig).toFixed(0)} MiB`);
  t.true(resident(rig) < maxBareMiB, `${resident(rig)} MiB`);
});

test('tokens of the greatest length take no more memory than the documented bound, and the newest are known', async (t) => {
  t.timeout(300_000);
  const rig = await startRig(t);
  const given = allow(grant());
  rig.decide = () => given;
  const token = (index: number): string => tokenOf(String(index).padStart(4_000, 'x'));
  const count = 40_000;
  await flood(
    rig.port,
    Array.from({ length: count }, (_, index) => `Bearer ${token(index)}`),
  );
  t.is(rig.asked.length, count);
  t.log(`${resident(rig).toFixed(0)} MiB`);
  t.true(resident(rig) < maxBareMiB + maxGrantsMiB, `${resident(rig)} MiB`);
  await rig.call({ authorization: `Bearer ${token(count - 1)}` });
  t.is(rig.asked.length, count);
  await rig.call({ authorization: `Bearer ${token(0)}` });
  t.is(rig.asked.length, count + 1);
});

test('expired grants are forgotten without other tokens, and their memory serves the next ones', async (t) => {
  t.timeout(300_000);
  const rig = await startRig(t, { edit: withGenerationsOf(2_000) });
  const given = allow(grant({ seconds: 1 }));
  rig.decide = () => given;
  const ofRound = async (round: number): Promise<number> => {
    await flood(
      rig.port,
      Array.from({ length: 6_000 }, (_, index) => `Bearer ${tokenOf(`${round}-${index}`.padStart(4_000, 'x'))}`),
    );
    const peak = resident(rig);
    await waitFor('the grants are forgotten', async () => (await luaMiB(rig)) < 1);
    return peak;
  };
  const first = await ofRound(1);
  const last = await ofRound(2);
  t.log(`${first.toFixed(0)} MiB after the first flood, ${last.toFixed(0)} MiB after the second`);
  t.true(last < maxBareMiB + maxGrantsMiB, `${last} MiB`);
});

test('a grant that is in use outlives its generation', async (t) => {
  const generationMs = 200;
  const rig = await startRig(t, { edit: withGenerationsOf(generationMs) });
  rig.decide = () => allow(grant({ seconds: 60 }));
  const until = performance.now() + 1_000;
  let [pauses, lastAt] = [0, performance.now()];
  while (performance.now() < until) {
    t.is(await rig.call({ token: 'a' }), 404);
    // A grant that the machine leaves unused for a generation may be forgotten.
    if (performance.now() - lastAt >= generationMs) pauses += 1;
    lastAt = performance.now();
  }
  t.true(rig.asked.length <= 1 + pauses, `${rig.asked.length} checks, ${pauses} pauses`);
});

/** Envoy with one worker thread and empty tables. */
const maxBareMiB = 130;
/** Two generations of 5,000 grants with tokens of 4 KiB (envoy/README.md). */
const maxGrantsMiB = 100;

function resident({ pid }: Rig): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}

const luaHeader = 'x-lua-kibibytes';

/** Replaces the lifetime of a generation in grants.lua, and adds the memory of Lua as a header to each response with a grant. */
function withGenerationsOf(milliseconds: number): (bootstrap: Document) => void {
  const source = readFileSync(new URL('../../envoy/grants.lua', import.meta.url), 'utf8');
  const [lifetime, response] = ['generation_ms = 60000', 'function envoy_on_response(handle)\n'];
  if (!source.includes(lifetime) || !source.includes(response)) throw new Error('grants.lua has another form');
  const lua = source
    .replace(lifetime, `generation_ms = ${milliseconds}`)
    .replace(response, `${response}  handle:headers():add("${luaHeader}", tostring(collectgarbage("count")))\n`);
  return (bootstrap) =>
    namedEntry(objectsManager(bootstrap), ['http_filters'], 'kura.grants').setIn(
      ['typed_config', 'extension_config', 'typed_config', 'default_source_code'],
      { inline_string: lua },
    );
}

/** The memory of live and dead values in Lua, after one more request. */
async function luaMiB({ port }: Rig): Promise<number> {
  const { headers } = await call(`http://127.0.0.1:${port}`, { path: '/objects/vision/x', token: tokenOf('a') });
  return Number(headers[luaHeader]) / 1024;
}

/** Sends a GET with each value of Authorization, over 20 connections, and over a new one after each response that ends its connection. */
async function flood(port: number, authorizations: readonly string[]): Promise<void> {
  const head = (authorization: string): string => `GET /objects/vision/x HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n\r\n`;
  const left = authorizations.map(head).values();
  await Promise.all(Array.from({ length: 20 }, () => pipeline(port, left)));
}

/** Sends requests from the shared iterator until it ends. */
async function pipeline(port: number, requests: IterableIterator<string>): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isDone = await exchange(socket, requests);
    socket.destroy();
    if (isDone) return;
  }
}

/** Many requests at a time would take less, but a response can end the connection. Returns whether the iterator has ended. */
async function exchange(socket: Socket, requests: IterableIterator<string>): Promise<boolean> {
  const answers = on(socket, 'data', { close: ['close'] })[Symbol.asyncIterator]();
  for (const request of requests) {
    socket.write(request);
    let text = '';
    while (!text.includes('\r\n\r\n')) {
      const { value, done } = await answers.next();
      if (done) throw new Error(`the connection ended without a response: ${text}`);
      text += value;
    }
    if (text.includes('connection: close')) return false;
  }
  return true;
}
