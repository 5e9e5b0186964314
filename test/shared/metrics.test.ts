import test from 'ava';
import { createRegistry, startMetricsServer } from '../../services/shared/metrics.ts';
import { call } from '../support/http.ts';

const address = { host: '127.0.0.1', port: 0 };

test('liveness, readiness with its reason, metrics and further pages are served; other paths and methods are rejected', async (t) => {
  let reason: string | undefined = 'no list yet';
  const server = await startMetricsServer({
    address,
    registry: createRegistry(),
    notReady: () => reason,
    routes: { '/debug': (_request, response) => response.end('debug\n') },
  });
  t.teardown(() => server.close());
  const get = async (path: string, method = 'GET') => {
    const { status, body } = await call(`http://${server.address}`, { path, method });
    return [status, body.toString()] as const;
  };
  t.deepEqual(await get('/livez'), [200, 'ok\n']);
  t.deepEqual(await get('/readyz'), [503, 'no list yet\n']);
  reason = undefined;
  t.deepEqual(await get('/readyz?verbose'), [200, 'ok\n']);
  t.regex((await get('/metrics'))[1], /^process_cpu_seconds_total \d/m);
  t.deepEqual(await get('/debug'), [200, 'debug\n']);
  t.is((await get('/elsewhere'))[0], 404);
  t.is((await get('/livez', 'POST'))[0], 405);
});

test('a host that a public name server can answer gets 421, so that no other web page can read the response', async (t) => {
  const server = await startMetricsServer({ address, registry: createRegistry(), notReady: () => undefined });
  t.teardown(() => server.close());
  const statusFor = async (host: string): Promise<number> =>
    (await call(`http://${server.address}`, { path: '/livez', headers: { host } })).status;
  for (const host of ['evil.example', 'evil.example:9904', '127.0.0.1.evil.example', 'kura-eds.svc.evil.example', 'xlocalhost.com'])
    t.is(await statusFor(host), 421, host);
  const good = [
    '127.0.0.1:9904',
    '10.0.0.7',
    '[::1]:9904',
    'localhost:9904',
    'kura-eds',
    'kura-eds.kura-system.svc',
    'a.b.svc.cluster.local:80',
  ];
  for (const host of good) t.is(await statusFor(host), 200, host);
});

test('a taken address is an error', async (t) => {
  const first = await startMetricsServer({ address, registry: createRegistry(), notReady: () => undefined });
  t.teardown(() => first.close());
  const port = Number(first.address.split(':').at(-1));
  const second = startMetricsServer({ address: { ...address, port }, registry: createRegistry(), notReady: () => undefined });
  await t.throwsAsync(second, { code: 'EADDRINUSE' });
});
