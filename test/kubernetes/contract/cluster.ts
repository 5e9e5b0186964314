/** A Kubernetes API that must fulfil the contract: the fake one, or a real control plane. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { Agent, request } from 'undici';
import { parse } from 'yaml';
import { readLines } from '../../../services/shared/lines.ts';

export interface ClusterSource {
  readonly kubeconfig: string;
  /** The key that the API signs ServiceAccount tokens with, PEM. */
  readonly signingKeyFile: string;
  /** The longest time between two bookmarks of a watch. */
  readonly bookmarkWithinMs: number;
  /** Kills the API and starts it on the same address and state. */
  readonly restart: () => Promise<void>;
}

export interface Reply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: any JSON; the tests assert what they expect of it.
  readonly body: any;
}

export interface Call {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Instead of the administrator's; null for none. */
  readonly token?: string | null;
}

interface WatchEvent {
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: any object.
  readonly object: any;
}

export interface Cluster {
  readonly source: ClusterSource;
  readonly signingKey: string;
  call(method: string, path: string, call?: Call): Promise<Reply>;
  /** Throws unless the answer's status is 2xx. */
  // biome-ignore lint/suspicious/noExplicitAny: any JSON.
  ok(method: string, path: string, call?: Call): Promise<any>;
  /** The events of a watch as they come, until it ends; the whole watch may take `withinMs`. */
  watch(path: string, options?: { accept?: string; withinMs?: number }): Promise<AsyncGenerator<WatchEvent>>;
  /** A namespace for the test, deleted after it. */
  namespace(t: ExecutionContext): Promise<string>;
  close(): Promise<void>;
}

interface Kubeconfig {
  readonly clusters: readonly [{ readonly cluster: { readonly server: string; readonly 'certificate-authority-data': string } }];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

export const patchTypes = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
};

/** Reads the administrator's kubeconfig and opens a connection pool that trusts its CA alone. */
export async function openCluster(source: ClusterSource): Promise<Cluster> {
  const { clusters, users } = parse(await readFile(source.kubeconfig, 'utf8')) as Kubeconfig;
  const { server } = clusters[0].cluster;
  const ca = Buffer.from(clusters[0].cluster['certificate-authority-data'], 'base64').toString();
  const dispatcher = new Agent({ connect: { ca }, bodyTimeout: 0 });
  const send = (method: string, path: string, { body, headers = {}, token = users[0].user.token }: Call, signal: AbortSignal) =>
    request(server + path, {
      dispatcher,
      method,
      signal,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });

  const call: Cluster['call'] = async (method, path, options = {}) => {
    const answer = await send(method, path, options, AbortSignal.timeout(20_000));
    const text = await answer.body.text();
    const isJson = String(answer.headers['content-type']).includes('json');
    return { status: answer.statusCode, body: isJson ? JSON.parse(text) : text };
  };
  const ok: Cluster['ok'] = async (method, path, options) => {
    const { status, body } = await call(method, path, options);
    if (status < 200 || status > 299) throw new Error(`${method} ${path} was answered ${status}: ${body?.message ?? body}`);
    return body;
  };
  return {
    source,
    signingKey: await readFile(source.signingKeyFile, 'utf8'),
    call,
    ok,
    watch: async (path, { accept = 'application/json', withinMs = 20_000 } = {}) => {
      const { statusCode, body } = await send('GET', path, { headers: { accept } }, AbortSignal.timeout(withinMs));
      if (statusCode !== 200) throw new Error(`${path} was answered ${statusCode}: ${await body.text()}`);
      return (async function* () {
        for await (const line of readLines(body, 4 * 2 ** 20)) yield JSON.parse(line) as WatchEvent;
      })();
    },
    namespace: async (t) => {
      const name = `contract-${randomBytes(4).toString('hex')}`;
      await ok('POST', '/api/v1/namespaces', { body: { metadata: { name } } });
      t.teardown(() => call('DELETE', `/api/v1/namespaces/${name}`).then(() => undefined));
      return name;
    },
    close: () => dispatcher.destroy(),
  };
}

/** Takes the next events of a watch; fewer when it ends. */
export async function take(events: AsyncGenerator<WatchEvent>, count: number): Promise<WatchEvent[]> {
  const taken: WatchEvent[] = [];
  while (taken.length < count) {
    const { value, done } = await events.next();
    if (done) break;
    taken.push(value);
  }
  return taken;
}

/** `ADDED name`, as the tests compare events. */
export function brief(events: readonly WatchEvent[]): string[] {
  return events.map(({ type, object }) => `${type} ${object.metadata?.name ?? ''}`.trim());
}

export function pod(
  name: string,
  { node, labels = {}, ...spec }: { node?: string; labels?: object } & Record<string, unknown> = {},
): object {
  const containers = [{ name: 'main', image: 'none' }];
  return { metadata: { name, labels }, spec: { containers, ...(node === undefined ? {} : { nodeName: node }), ...spec } };
}
