/**
 * Drains the Envoy of this Pod before the Pod ends: `node services/envoy-drain/main.ts [ADMIN_URL] [MAX_SECONDS]`. Envoy's image has no
 * shell and its admin interface listens on loopback, so a preStop hook of authz's container runs this program.
 *
 * Envoy becomes unready first. Then each response closes its connection, until no connection is left. This is the order of Envoy
 * Gateway. Exit status: 0 no connections are left, 1 the time is over or Envoy does not respond.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const [admin = 'http://127.0.0.1:9901', maxSeconds = '60'] = process.argv.slice(2);
const maxMs = Number(maxSeconds) * 1000;
const responseTimeoutMs = 2_000;
/** Long enough for Kubernetes to remove the routes to this Pod, even without connections. */
const minDrainMs = 10_000;
const pollIntervalMs = 250;
const startedAt = performance.now();

try {
  await call('POST', '/healthcheck/fail');
  await call('POST', '/drain_listeners?graceful&skip_exit');
  for (;;) {
    const elapsedMs = performance.now() - startedAt;
    const active = await countConnections();
    if (active === 0 && elapsedMs >= Math.min(minDrainMs, maxMs)) break;
    if (elapsedMs >= maxMs) {
      console.error(`drain: ${active} connections are still open after ${maxSeconds} s`);
      process.exit(1);
    }
    await delay(pollIntervalMs);
  }
} catch (error) {
  console.error(`drain: request to Envoy at ${admin} failed: ${(error as Error).message}`);
  process.exit(1);
}

async function countConnections(): Promise<number> {
  const text = await call('GET', '/stats?filter=^http\\.objects\\.downstream_cx_active$');
  return Number(/: (\d+)/.exec(text)?.[1] ?? 0);
}

function call(method: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(admin + path, { method, timeout: responseTimeoutMs }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () =>
        response.statusCode === 200 ? resolve(text) : reject(new Error(`${path} returned ${response.statusCode}`)),
      );
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${path} took over ${responseTimeoutMs} ms`)));
    outgoing.on('error', reject).end();
  });
}
