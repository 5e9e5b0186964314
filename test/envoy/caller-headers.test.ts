/** The two signed headers in the real Envoy: whatever a client sends, a shard gets those of authz or no request. */
import { once } from 'node:events';
import { connect } from 'node:net';
import test from 'ava';
import { allow, grant, headersOf, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

const given = headersOf({ pod: 'trainer-0' });
const forged = { caller: 'nlp/eval/p', terms: 'max-object-bytes=999; exp=1; sig=forged' };

/** Header lines of a client. */
const forms: Readonly<Record<string, readonly string[]>> = {
  'lower case': [`x-kura-caller: ${forged.caller}`, `x-kura-terms: ${forged.terms}`],
  'upper case': [`X-KURA-CALLER: ${forged.caller}`, `X-KURA-TERMS: ${forged.terms}`],
  'mixed case': [`x-Kura-cAller: ${forged.caller}`, `X-kura-Terms: ${forged.terms}`],
  'without a space': [`x-kura-caller:${forged.caller}`, `x-kura-terms:${forged.terms}`],
  empty: ['x-kura-caller:', 'x-kura-terms:'],
  'doubled in two cases': [
    `x-kura-caller: ${forged.caller}`,
    `X-Kura-Caller: ${forged.caller}`,
    `x-kura-terms: ${forged.terms}`,
    `X-Kura-Terms: ${forged.terms}`,
  ],
  'with those of authz': [`x-kura-caller: ${given.caller}`, `x-kura-terms: ${given.terms}`],
  'one of them': [`x-kura-caller: ${forged.caller}`],
  'the other one': [`x-kura-terms: ${forged.terms}`],
  'nominated in Connection': [
    `x-kura-caller: ${forged.caller}`,
    `x-kura-terms: ${forged.terms}`,
    'connection: x-kura-caller, x-kura-terms',
  ],
  'nominated in Connection and not sent': ['connection: X-Kura-Caller, keep-alive, x-kura-terms'],
  'nominated in two lines of Connection': ['connection: x-kura-caller', 'connection: x-kura-terms', `x-kura-terms: ${forged.terms}`],
  'as continuation lines': ['accept: a', ` x-kura-caller: ${forged.caller}`, `\tx-kura-terms: ${forged.terms}`],
  'with the mark of a grant': [`x-kura-caller: ${forged.caller}`, 'x-kura-grant: 1', 'x-kura-hit: 1'],
};

/** The status of one request on a new connection. */
async function send(rig: Rig, lines: readonly string[]): Promise<number> {
  const socket = connect(rig.port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (text.includes('\r\n\r\n')) socket.destroy();
  });
  socket.write(['GET /objects/vision/x HTTP/1.1', 'host: kura', ...lines, '', ''].join('\r\n'));
  await once(socket, 'close');
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
}

test('with a token, from a check and from a grant, a shard gets the headers of authz once and no other', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant(given));
  for (const [form, lines] of Object.entries(forms)) {
    const authorization = `authorization: Bearer ${tokenOf(form.replaceAll(' ', '-'))}`;
    for (const way of ['check', 'grant', 'grant']) {
      const [asked, received] = [rig.asked.length, rig.recorder.requests.length];
      t.is(await send(rig, [authorization, ...lines]), 404, form);
      t.is(rig.asked.length - asked, way === 'check' ? 1 : 0, `${form}: ${way}`);
      t.is(rig.recorder.requests.length - received, 1, form);
      const { headers } = rig.recorder.requests.at(-1) as Rig['recorder']['requests'][number];
      // Node joins the lines of a field, so that one value is one line.
      t.deepEqual(
        Object.entries(headers).filter(([name]) => name.startsWith('x-kura-')),
        [
          ['x-kura-caller', given.caller],
          ['x-kura-terms', given.terms],
        ],
        `${form}: ${way}`,
      );
      t.false(/x-kura/i.test(headers.connection ?? ''), form);
    }
  }
});

test('without a token, and with one that authz denies, no form passes for a decision', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => ({ kind: 'unauthenticated', reason: 'no' });
  for (const [form, lines] of Object.entries(forms)) {
    const asked = rig.asked.length;
    t.is(await send(rig, lines), 401, form);
    t.is(rig.asked.length, asked, form);
    t.is(await send(rig, [`authorization: Bearer ${tokenOf('a')}`, ...lines]), 401, form);
    t.is(rig.asked.length, asked + 1, form);
  }
  t.is(rig.recorder.requests.length, 0);
});

test('a name that Envoy would have to repair is refused', async (t) => {
  const rig = await startRig(t);
  rig.decide = () => allow(grant(given));
  for (const line of ['x_kura_caller: a/b/-', 'x-kura-caller : a/b/-', 'x-kura-caller\t: a/b/-', 'x-kura_terms: exp=1'])
    t.is(await send(rig, [`authorization: Bearer ${tokenOf('a')}`, line]), 400, line);
  t.is(rig.recorder.requests.length, 0);
});
