/** What a flood on one Envoy, a slow client and an exhausted heap end in: the operators' bootstrap in the real Envoy, with smaller numbers where theirs would take long. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import test from 'ava';
import type { Document } from 'yaml';
import { namedEntry, objectsManager } from '../../services/local/bootstrap.ts';
import { waitFor } from '../support/wait.ts';
import { allow, tokenOf } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

interface Connection {
  readonly socket: Socket;
  /** All that was received. */
  readonly text: () => string;
  readonly closed: Promise<unknown>;
}

async function open({ port }: Pick<Rig, 'port'>): Promise<Connection> {
  const socket = connect({ host: '127.0.0.1', port });
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk) => (text += chunk));
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await once(socket, 'connect');
  return { socket, text: () => text, closed };
}

async function isLive({ metricsPort }: Pick<Rig, 'metricsPort'>): Promise<boolean> {
  const answers = await Promise.all(['livez', 'readyz'].map((name) => fetch(`http://127.0.0.1:${metricsPort}/${name}`)));
  return answers.every(({ ok }) => ok);
}

function requestHead({ method = 'GET', more = '' } = {}): string {
  return `${method} /objects/vision/x HTTP/1.1\r\nhost: kura\r\nauthorization: Bearer ${tokenOf('a')}\r\n${more}\r\n`;
}

function statuses({ text }: Connection): number[] {
  return [...text().matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, status]) => Number(status));
}

/** Replaces a number of the bootstrap that must be there. */
function replace(
  bootstrap: Document | ReturnType<typeof objectsManager>,
  at: readonly (string | number)[],
  [from, to]: readonly [unknown, unknown],
): void {
  if (bootstrap.getIn(at) !== from) throw new Error(`${at.join('.')} is ${bootstrap.getIn(at)} and not ${from}`);
  bootstrap.setIn(at, to);
}

const monitor = (index: number, field: string) => ['overload_manager', 'resource_monitors', index, 'typed_config', field];

const minIdle = ['overload_manager', 'actions', 2, 'typed_config', 'timer_scale_factors', 0, 'min_timeout'];

test('a connection that floods gets 429 for what is too much, at no cost to authz, and another one is served', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      const limit = namedEntry(objectsManager(bootstrap), ['http_filters'], 'envoy.filters.http.local_ratelimit');
      replace(limit, ['typed_config', 'token_bucket', 'max_tokens'], [10_000, 100]);
      replace(limit, ['typed_config', 'token_bucket', 'tokens_per_fill'], [5_000, 1]);
    },
  });
  rig.decide = () => allow(undefined);
  const flooder = await open(rig);
  t.teardown(() => flooder.socket.destroy());
  for (let sent = 1; sent <= 200; sent++) {
    flooder.socket.write(requestHead());
    await waitFor('the answer', () => statuses(flooder).length === sent, { everyMs: 0 });
  }
  const served = statuses(flooder).filter((status) => status === 404).length;
  const refused = statuses(flooder).filter((status) => status === 429).length;
  t.is(served + refused, 200);
  t.true(served >= 100 && refused > 50, `${served} served, ${refused} refused`);
  t.is(rig.asked.length, served);
  t.regex(flooder.text(), /HTTP\/1\.1 429 .*?retry-after: 1\r\n.*?"code":"too-many-requests"/s);
  t.is(await rig.call({ token: 'b' }), 404);
});

test('connections beyond the limit are closed, those below it are served, and room is free again once they go', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      replace(bootstrap, monitor(0, 'max_active_downstream_connections'), [20_000, 20]);
      // A slow machine must not close the silent connections that have a place.
      replace(namedEntry(bootstrap, ['static_resources', 'listeners'], 'objects'), ['listener_filters_timeout'], ['5s', '300s']);
      replace(bootstrap, minIdle, ['5s', '300s']);
    },
  });
  rig.decide = () => allow(undefined);
  const connections = await Promise.all(Array.from({ length: 60 }, () => open(rig)));
  t.teardown(() => {
    for (const { socket } of connections) socket.destroy();
  });
  const isOpen = ({ socket }: Connection): boolean => !socket.destroyed && !socket.readableEnded;
  // The rig's own connection is the twentieth.
  await waitFor('the others are closed', () => connections.filter(isOpen).length === 19);
  const left = connections.filter(isOpen);
  for (const { socket } of left) socket.write(requestHead());
  await waitFor('each is served', () => left.every((connection) => statuses(connection)[0] === 404));
  t.true(await isLive(rig), 'the kubelet still gets an answer');
  for (const { socket } of left) socket.destroy();
  await waitFor('there is room', async () => (await rig.call({ token: 'b' })) === 404);
});

test('a connection without a complete first line is closed, and one that has had a response stays', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) =>
      replace(namedEntry(bootstrap, ['static_resources', 'listeners'], 'objects'), ['listener_filters_timeout'], ['5s', '0.3s']),
  });
  rig.decide = () => allow(undefined);
  const kept = await open(rig);
  t.teardown(() => kept.socket.destroy());
  kept.socket.write(requestHead());
  await waitFor('the response', () => statuses(kept).length === 1);
  for (const text of ['', 'G', 'GET /objects/vision/x', 'GET /objects/vision/x HTTP/1.1']) {
    const silent = await open(rig);
    silent.socket.write(text);
    await silent.closed;
    t.is(silent.text(), '', text);
  }
  t.false(kept.socket.destroyed || kept.socket.readableEnded);
  kept.socket.write(requestHead());
  await waitFor('the second response', () => statuses(kept).length === 2);
});

test('when connections become scarce, the idle ones make room', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      replace(bootstrap, monitor(0, 'max_active_downstream_connections'), [20_000, 20]);
      replace(bootstrap, minIdle, ['5s', '0.1s']);
    },
  });
  rig.decide = () => allow(undefined);
  const idle = await Promise.all(Array.from({ length: 19 }, () => open(rig)));
  t.teardown(() => {
    for (const { socket } of idle) socket.destroy();
  });
  // Each has had a response, so only idle_timeout of 300 s would close it.
  for (const { socket } of idle) socket.write(requestHead());
  await waitFor('some are closed', () => idle.filter(({ socket }) => socket.destroyed || socket.readableEnded).length > 1);
  t.is(await rig.call({}), 404);
});

test('an exhausted heap is a 503 with a code and Retry-After, and Envoy lives on', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => replace(bootstrap, monitor(1, 'max_heap_size_bytes'), [1_610_612_736, 1]),
  });
  const answer = await waitFor('Envoy has looked at its heap', async () => {
    const connection = await open(rig);
    connection.socket.write(requestHead());
    await waitFor('an answer', () => connection.text().includes('}'));
    connection.socket.destroy();
    return connection.text().includes('"code":"overloaded"') && connection.text();
  });
  t.regex(answer, /^HTTP\/1\.1 503 .*retry-after: 1\r\n/s);
  t.true(await isLive(rig));
});

test('a client that trickles its head, or stalls in its body, is cut off with 408', async (t) => {
  const rig = await startRig(t, {
    edit: (bootstrap) => {
      replace(objectsManager(bootstrap), ['request_headers_timeout'], ['10s', '0.3s']);
      const routes = ['route_config', 'virtual_hosts', 0, 'routes'];
      replace(namedEntry(objectsManager(bootstrap), routes, 'write'), ['route', 'idle_timeout'], ['120s', '0.3s']);
    },
  });
  rig.decide = () => allow(undefined);
  for (const text of [
    'GET /objects/vision/x HTTP/1.1\r\nhost: ku',
    `${requestHead({ method: 'PUT', more: 'content-length: 10\r\n' })}abc`,
  ]) {
    const slow = await open(rig);
    slow.socket.write(text);
    await slow.closed;
    t.deepEqual(statuses(slow), [408], text);
    t.regex(slow.text(), /content-type: application\/problem\+json/);
  }
});

test('a head over 16 KiB is a 431 with a problem body', async (t) => {
  const rig = await startRig(t);
  const connection = await open(rig);
  connection.socket.write(requestHead({ more: `x: ${'x'.repeat(17 * 1024)}\r\n` }));
  await connection.closed;
  t.deepEqual(statuses(connection), [431]);
  t.regex(connection.text(), /"code":"proxy-refused"/);
});
