/** The end of the service: SIGTERM breaks no request. */
import { once } from 'node:events';
import { Agent, get, type IncomingMessage } from 'node:http';
import test from 'ava';
import { callerHeaders } from '../support/caller.ts';
import { waitFor } from '../support/wait.ts';
import { startOrigin, startScripted } from './support/origin.ts';

test('a request that runs at the end gets its whole body, and its connection closes', async (t) => {
  const bodies: (() => void)[] = [];
  const { host } = await startScripted(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('first');
    bodies.push(() => response.end('-last'));
  });
  const origin = `- { name: web, prefix: web/, http: { url: "http://${host}/" }, allowedHosts: ["127.0.0.1"] }\n`;
  const { url, service } = await startOrigin(t, origin);
  const agent = new Agent({ keepAlive: true });
  t.teardown(() => agent.destroy());
  const request = async (): Promise<IncomingMessage> => {
    const outgoing = get(`${url}/fetch/web/web/x`, { agent, headers: { ...callerHeaders({ fill: 'web' }) } });
    return ((await once(outgoing, 'response')) as [IncomingMessage])[0];
  };
  const running = await request();
  const ended = service.stop('SIGTERM');
  await waitFor('the service ends', () => service.output().includes('"msg":"stopping"'));
  // A shard that has not found another replica yet.
  const late = await request();
  t.is(late.headers.connection, 'close');
  for (const finish of bodies) finish();
  for (const response of [running, late]) {
    let text = '';
    for await (const chunk of response) text += chunk;
    t.is(text, 'first-last');
  }
  t.is(await ended, 0);
});

test('the end does not wait longer than its setting', async (t) => {
  const { host } = await startScripted(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 10 });
    response.write('first');
  });
  const origin = `- { name: web, prefix: web/, http: { url: "http://${host}/" }, allowedHosts: ["127.0.0.1"] }\n`;
  const { url, service } = await startOrigin(t, origin, { KURA_ORIGIN_DRAIN: '200ms' });
  const outgoing = get(`${url}/fetch/web/web/x`, { agent: false, headers: { ...callerHeaders({ fill: 'web' }) } });
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const broken = once(response, 'error');
  response.resume();
  t.is(await service.stop('SIGTERM'), 0);
  await broken;
  t.false(response.complete);
});
