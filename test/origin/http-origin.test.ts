/** An origin that is an HTTP server: what it responds, and what a shard gets. */
import test from 'ava';
import { callerHeaders } from '../support/caller.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import { codeOf, startOrigin, startScripted } from './support/origin.ts';

const text = 'ABCDEFGHIJ0123456789';

function origin(host: string, more = ''): string {
  return `- { name: web, prefix: web/, http: { url: "http://${host}/data/" }, allowedHosts: ["127.0.0.1"], timeout: 2s${more} }\n`;
}

test.serial(
  'an object arrives whole, with its length, version and date, and the path and the query arrive as the client wrote them',
  async (t) => {
    const { host, requests } = await startScripted(t, (_request, response) => {
      response.writeHead(200, { etag: '"v1"', 'last-modified': 'Tue, 24 Nov 2026 10:00:00 GMT', 'content-length': text.length }).end(text);
    });
    const { fetch, metrics } = await startOrigin(t, origin(host));
    const { status, headers, body } = await fetch('web', 'a%20b/%C3%A9(1).jpg?size=1%2F2');
    t.is(status, 200);
    t.is(String(body), text);
    t.like(headers, { etag: '"v1"', 'last-modified': 'Tue, 24 Nov 2026 10:00:00 GMT', 'content-length': '20' });
    t.is(requests[0]?.url, '/data/a%20b/%C3%A9(1).jpg?size=1%2F2');
    t.is(requests[0]?.headers['accept-encoding'], 'identity');
    const asked = await fetch('web', 'k', { method: 'HEAD' });
    t.deepEqual([asked.status, asked.headers['content-length'], requests[1]?.method], [200, '20', 'HEAD']);
    t.regex(await metrics(), /kura_origin_requests_total\{origin="web",result="object"\} 2\n/);
    t.regex(await metrics(), /kura_origin_bytes_total\{origin="web"\} 20\n/);
  },
);

test.serial('a range is passed on, a lying range is a failure, and an origin without ranges sends the whole object', async (t) => {
  const { host } = await startScripted(t, ({ url, headers }, response) => {
    if (url === '/data/whole') return response.end(text);
    if (url === '/data/end') return response.writeHead(416).end();
    const range = url === '/data/lies' ? 'bytes 0-3/20' : 'bytes 2-5/20';
    return response.writeHead(206, { 'content-range': range, 'content-length': 4 }).end(headers.range === 'bytes=2-5' ? 'CDEF' : '????');
  });
  const { fetch } = await startOrigin(t, origin(host));
  const ranged = (path: string, range = 'bytes=2-5') => fetch('web', path, { headers: { range } });
  const part = await ranged('k');
  t.deepEqual([part.status, String(part.body), part.headers['content-range']], [206, 'CDEF', 'bytes 2-5/20']);
  t.deepEqual([(await ranged('whole')).status, String((await ranged('whole')).body)], [200, text]);
  t.is(codeOf(await ranged('lies')), 'origin-failed');
  t.is(codeOf(await ranged('end')), 'range-not-satisfiable');
  for (const range of ['bytes=-5', 'bytes=5-2', 'bytes=0-1,4-5', 'items=0-1']) t.is(codeOf(await ranged('k', range)), 'bad-range');
});

test.serial('each response of the origin has its problem', async (t) => {
  const { host } = await startScripted(t, ({ url = '' }, response) => {
    const status = Number(url.slice('/data/'.length));
    response.writeHead(status === 299 ? 200 : status, status === 299 ? { 'content-encoding': 'gzip' } : {}).end('x');
  });
  const { fetch, service } = await startOrigin(t, origin(host));
  const found: [number, number, string][] = [];
  for (const status of [404, 410, 401, 403, 500, 503, 429, 204, 299]) {
    const response = await fetch('web', String(status));
    found.push([status, response.status, codeOf(response)]);
    if (codeOf(response) === 'origin-failed') t.is(response.headers['retry-after'], '1');
  }
  t.deepEqual(found, [
    [404, 404, 'origin-miss'],
    [410, 404, 'origin-miss'],
    [401, 502, 'origin-refused'],
    [403, 502, 'origin-refused'],
    [500, 502, 'origin-failed'],
    [503, 502, 'origin-failed'],
    [429, 502, 'origin-failed'],
    [204, 502, 'origin-failed'],
    [299, 502, 'origin-failed'],
  ]);
  await waitFor('both reports', () => service.output().match(/the origin (failed|refused) a request/g)?.length === 2);
  t.regex(service.output(), /"caller":"vision\/trainer\/-","reason":"the origin responds with 500"/);
});

test.serial('a body that ends early, and an origin that stops in mid-body, break the connection', async (t) => {
  const { host } = await startScripted(t, ({ url }, response) => {
    if (url === '/data/stops') return void response.writeHead(200, { 'content-length': 20 }).write('ABC');
    if (url === '/data/chunked') {
      response.writeHead(200).write('ABC');
      return void setImmediate(() => response.destroy());
    }
    response.writeHead(200, { 'content-length': 20 }).write('ABC');
    setImmediate(() => response.destroy());
  });
  const { fetch, metrics } = await startOrigin(t, origin(host));
  for (const path of ['cut', 'chunked', 'stops']) t.is((await fetch('web', path)).complete, false, path);
  t.regex(await metrics(), /kura_origin_requests_total\{origin="web",result="short"\} 3\n/);
});

test.serial('an object above maxObjectBytes is refused, and an unannounced body above it breaks the connection', async (t) => {
  const { host } = await startScripted(t, ({ url, headers }, response) => {
    const body = url === '/data/fits' ? text : `${text}+`;
    if (headers.range !== undefined) return response.writeHead(206, { 'content-range': `bytes 2-3/${body.length}` }).end('CD');
    if (url !== '/data/grows') return response.writeHead(200, { 'content-length': body.length }).end(body);
    response.write(text, () => response.end('+'));
  });
  const { fetch, metrics, service } = await startOrigin(t, origin(host, ', maxObjectBytes: 20'));
  t.is(String((await fetch('web', 'fits')).body), text);
  for (const headers of [{}, { range: 'bytes=2-3' }]) {
    const refused = await fetch('web', 'large', { headers });
    t.deepEqual([refused.status, codeOf(refused), refused.headers['retry-after']], [502, 'origin-too-large', undefined]);
  }
  const asked = await fetch('web', 'large', { method: 'HEAD' });
  t.deepEqual([asked.status, asked.headers['x-kura-problem']], [502, 'origin-too-large']);
  const grown = await fetch('web', 'grows');
  t.deepEqual([grown.status, grown.headers['x-kura-max-object-bytes'], grown.complete], [200, '20', false]);
  t.regex(await metrics(), /kura_origin_requests_total\{origin="web",result="too-large"\} 4\n/);
  t.is(service.output().match(/"origin":"web".*the origin has an object above maxObjectBytes/g)?.length, 1);
});

test.serial('a body may take longer than the timeout, which is for its head and for each pause', async (t) => {
  const { host } = await startScripted(t, async (_request, response) => {
    response.writeHead(200, { 'content-length': 3 });
    for (const letter of 'ABC') {
      response.write(letter);
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
    response.end();
  });
  const { fetch } = await startOrigin(t, origin(host));
  const { complete, body } = await fetch('web', 'slow');
  t.deepEqual([complete, String(body)], [true, 'ABC']);
});

test.serial('a silent origin is a failure after its timeout', async (t) => {
  const { host } = await startScripted(t, () => undefined);
  const { fetch } = await startOrigin(t, origin(host));
  const response = await fetch('web', 'k');
  t.is(codeOf(response), 'origin-failed');
});

test.serial('an origin that is away is a failure', async (t) => {
  const { fetch, service } = await startOrigin(t, origin('127.0.0.1:1'));
  t.is(codeOf(await fetch('web', 'k')), 'origin-failed');
  await waitFor('the reason in the log', () => /ECONNREFUSED/.test(service.output()));
});

test.serial('another version than the requested one is refused before its first byte', async (t) => {
  const { host } = await startScripted(t, (_request, response) => response.writeHead(200, { etag: '"v2"' }).end(text));
  const { fetch } = await startOrigin(t, origin(host));
  t.is(codeOf(await fetch('web', 'k', { headers: { 'if-match': '"v1"' } })), 'origin-changed');
  t.is((await fetch('web', 'k', { headers: { 'if-match': '"v2"' } })).status, 200);
});

test.serial('a redirect is followed to the same or an allowed host only, without the credentials of the origin', async (t) => {
  const other = await startScripted(t, (_request, response) => response.end('elsewhere'));
  const { host, requests } = await startScripted(t, ({ url }, response) => {
    if (url === '/data/again') return response.writeHead(302, { location: '/data/there' }).end();
    if (url === '/data/loop') return response.writeHead(302, { location: '/data/loop' }).end();
    if (url === '/data/allowed') return response.writeHead(302, { location: `http://${other.host}/x` }).end();
    if (url === '/data/metadata') return response.writeHead(302, { location: 'http://169.254.169.254/latest' }).end();
    if (url === '/data/file') return response.writeHead(302, { location: 'file:///etc/passwd' }).end();
    if (url === '/data/nowhere') return response.writeHead(302).end();
    return response.end('here');
  });
  const { fetch, service } = await startOrigin(t, origin(host));
  t.is(String((await fetch('web', 'again')).body), 'here');
  t.is(String((await fetch('web', 'allowed')).body), 'elsewhere');
  for (const path of ['loop', 'metadata', 'file', 'nowhere']) t.is(codeOf(await fetch('web', path)), 'origin-failed', path);
  t.is(requests.filter(({ url }) => url === '/data/loop').length, 6);
  t.notRegex(service.output(), /passwd/);
});

test.serial(
  'addresses of this machine and of a metadata service are refused, by number and by name, unless they are allowed',
  async (t) => {
    const { host, requests } = await startScripted(t, (_request, response) => response.end(text));
    const port = host.split(':')[1];
    const places = [
      `127.0.0.1:${port}`,
      `localhost:${port}`,
      `[::1]:${port}`,
      `0.0.0.0:${port}`,
      `[::ffff:127.0.0.1]:${port}`,
      '169.254.169.254',
    ];
    const yaml = places
      .map((place, at) => `- { name: o${at}, prefix: o${at}/, http: { url: "http://${place}/" }, timeout: 2s }\n`)
      .join('');
    const { fetch, service } = await startOrigin(
      t,
      `${yaml}- { name: ok, prefix: ok/, http: { url: "http://localhost:${port}/" }, allowedHosts: [localhost] }\n`,
    );
    for (const at of places.keys()) t.is(codeOf(await fetch(`o${at}`, 'k')), 'origin-failed', places[at]);
    t.is(requests.length, 0);
    await waitFor('the last report', () => service.output().includes('169.254.169.254'));
    t.regex(service.output(), /localhost has the address [0-9a-f.:]+, which is refused unless allowedHosts lists localhost/);
    t.is((await fetch('ok', 'k')).status, 200);
  },
);

test.serial('a name that leads out of its prefix, and a request without good terms, never reach the origin', async (t) => {
  const { host, requests } = await startScripted(t, (_request, response) => response.end(text));
  const { fetch, url } = await startOrigin(t, origin(host));
  for (const path of ['', '..%2Fx', 'a/%2e%2e/b', '%2e', 'a/../b', 'a%00', 'a%zz', 'a/.'])
    t.is(codeOf(await fetch('web', path)), 'bad-path', path);
  t.is(codeOf(await call(url, { path: '/fetch/web/web/k' })), 'bad-caller');
  t.is(codeOf(await call(url, { path: '/fetch/web/web/k', headers: { ...callerHeaders() } })), 'not-your-origin');
  const expired = callerHeaders({ fill: 'web', expiresAtSeconds: 1 });
  t.is(codeOf(await call(url, { path: '/fetch/web/web/k', headers: { ...expired } })), 'bad-caller');
  t.is(codeOf(await fetch('other', 'k')), 'no-such-origin');
  t.is(codeOf(await call(url, { path: '/fetch/web/other/k', headers: { ...callerHeaders({ fill: 'web' }) } })), 'bad-path');
  t.is(codeOf(await call(url, { path: '/objects/k' })), 'no-such-path');
  t.is(codeOf(await fetch('web', 'k', { method: 'PUT', body: 'x' })), 'method-not-allowed');
  t.is(codeOf(await call(url, { path: '/list/web', headers: { ...callerHeaders({ fill: 'web' }) } })), 'no-list');
  t.is(requests.length, 0);
});

test.serial('no more requests than allowed are open at the origin, and a client that leaves gives its turn to the next', async (t) => {
  const held: (() => void)[] = [];
  const { host } = await startScripted(t, (_request, response) => held.push(() => response.end(text)));
  const { fetch, metrics } = await startOrigin(t, origin(host, ', maxConcurrency: 2').replace('timeout: 2s', 'timeout: 60s'));
  const all = Array.from({ length: 6 }, (_unused, at) => fetch('web', String(at)));
  await waitFor('two requests at the origin', () => held.length === 2);
  t.regex(await metrics(), /kura_origin_open_requests\{origin="web"\} 2\n/);
  for (let ended = 0; ended < 6; ended++) {
    await waitFor('the next request', () => held.length > 0);
    t.true(held.length <= 2);
    held.shift()?.();
  }
  for (const response of await Promise.all(all)) t.is(response.status, 200);
});

test.serial('a changed document is in force at once, and a bad one changes nothing', async (t) => {
  const { host } = await startScripted(t, ({ url }, response) => response.end(url));
  const { fetch, setOrigins, service } = await startOrigin(t, origin(host));
  await setOrigins(origin(host).replace('/data/', '/other/'));
  await waitFor('the other folder', async () => String((await fetch('web', 'k')).body) === '/other/k');
  await setOrigins('- { name: web, prefix: web/ }\n');
  await waitFor('the report', () =>
    /the origins document is rejected: the previous origins document stays in force/.test(service.output()),
  );
  t.is(String((await fetch('web', 'k')).body), '/other/k');
  await setOrigins('');
  await waitFor('the second report', () => /origins is not a list/.test(service.output()));
});
