/**
 * Drains the Envoy beside this authz before the Pod ends: `node services/envoy-drain/main.ts [ADMIN_URL] [LIMIT_SECONDS]`. Envoy's image
 * has no shell, and its admin interface listens only on loopback, so a preStop hook of authz's container runs this. It fails Envoy's health
 * check first, then closes each connection after its next response, and waits until none is left. Exit status: 0 when no connection is
 * left, 1 after the limit or when Envoy does not respond.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const [admin = 'http://127.0.0.1:9901', limit = '60'] = process.argv.slice(2);
const answerLimitMs = 2_000;
/** Endpoints of this Pod need this long to disappear from all nodes, with or without open connections. */
const leastMs = 10_000;
const startedAt = performance.now();

try {
  await post('/healthcheck/fail');
  await post('/drain_listeners?graceful&skip_exit');
  for (;;) {
    const elapsedMs = performance.now() - startedAt;
    const active = await connections();
    if (active === 0 && elapsedMs >= Math.min(leastMs, Number(limit) * 1000)) break;
    if (elapsedMs >= Number(limit) * 1000) {
      console.error(`drain: ${active} connections are still open after ${limit} s`);
      process.exit(1);
    }
    await delay(250);
  }
} catch (error) {
  console.error(`drain: Envoy's admin interface does not respond: ${(error as Error).message}`);
  process.exit(1);
}

async function connections(): Promise<number> {
  const text = await ask('GET', '/stats?filter=^http\\.objects\\.downstream_cx_active$');
  return Number(/: (\d+)/.exec(text)?.[1] ?? 0);
}

async function post(path: string): Promise<void> {
  await ask('POST', path);
}

function ask(method: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(admin + path, { method, timeout: answerLimitMs }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () =>
        response.statusCode === 200 ? resolve(text) : reject(new Error(`${path} returned ${response.statusCode}`)),
      );
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${path} did not respond within ${answerLimitMs} ms`)));
    outgoing.on('error', reject).end();
  });
}
