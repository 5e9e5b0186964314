/**
 * Drains the Envoy of this Pod before the Pod ends: `node services/envoy-drain/main.ts [ADMIN_URL] [MAX_SECONDS] [ENDING_URL]`. Envoy's
 * image has no shell and its admin interface listens on loopback, so a preStop hook of another container runs this program.
 *
 * The kubelet also runs the preStop hook of a container that failed its liveness probe. A drain of the listeners cannot be undone, so the
 * program asks authz at ENDING_URL first whether the Pod ends. It drains nothing when authz denies that or does not respond.
 *
 * Envoy becomes unready first. Then each response closes its connection, until no connection is left. This is the order of Envoy
 * Gateway. Exit status: 0 no connections are left, or the Pod does not end; 1 the time is over, or Envoy or authz does not respond.
 */
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

const [admin = 'http://127.0.0.1:9901', maxSeconds = '60', ending] = process.argv.slice(2);
const maxMs = Number(maxSeconds) * 1000;
const responseTimeoutMs = 2_000;
/** The kubelet can start the hook before authz hears of the end of the Pod. */
const maxEndingWaitMs = 5_000;
/** Long enough for Kubernetes to remove the routes to this Pod, even without connections. */
const minDrainMs = 10_000;
const pollIntervalMs = 250;
const startedAt = performance.now();

if (ending === undefined || (await isPodEnding(ending))) await drain();

/** Exits with status 1 when authz has not responded at all. */
async function isPodEnding(url: string): Promise<boolean> {
  let problem: string | undefined;
  for (;;) {
    try {
      if ((await call('GET', url)).trim() === 'yes') return true;
      problem = undefined;
    } catch (error) {
      problem = (error as Error).message;
    }
    if (performance.now() - startedAt >= maxEndingWaitMs) break;
    await delay(pollIntervalMs);
  }
  if (problem === undefined) return false;
  console.error(`drain: Envoy is not drained, because authz at ${url} does not report that the Pod ends: ${problem}`);
  process.exit(1);
}

async function drain(): Promise<void> {
  try {
    await call('POST', `${admin}/healthcheck/fail`);
    await call('POST', `${admin}/drain_listeners?graceful&skip_exit`);
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
}

async function countConnections(): Promise<number> {
  const text = await call('GET', `${admin}/stats?filter=^http\\.objects\\.downstream_cx_active$`);
  return Number(/: (\d+)/.exec(text)?.[1] ?? 0);
}

function call(method: string, url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, timeout: responseTimeoutMs }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(`${url} returned ${response.statusCode}`))));
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${url} took over ${responseTimeoutMs} ms`)));
    outgoing.on('error', reject).end();
  });
}
