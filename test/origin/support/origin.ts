/** A running origin service with the fake Kubernetes API, and a scripted HTTP server as its origin. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CoreV1Api } from '@kubernetes/client-node';
import type { ExecutionContext } from 'ava';
import { type FakeKubernetes, startFakeKubernetes } from '../../fake-kubernetes/fake-kubernetes.ts';
import { callerHeaders } from '../../support/caller.ts';
import { type Answer, type Call, call } from '../../support/http.ts';
import { type Service, startService } from '../../support/service.ts';
import { waitFor } from '../../support/wait.ts';

const system = 'kura-system';
const head = 'apiVersion: kura/v1\nkind: Origins\norigins:\n';

interface OriginService {
  readonly service: Service;
  readonly fake: FakeKubernetes;
  /** The base URL of the service. */
  readonly url: string;
  /** Requests `path` under the prefix of the origin, which is its name and a slash, for a caller that may use the origin. */
  fetch(origin: string, path: string, options?: Partial<Call>): Promise<Answer>;
  metrics(): Promise<string>;
  setOrigins(yaml: string): Promise<void>;
}

/** `yaml` has the entries of `origins`. */
export async function startOrigin(
  t: ExecutionContext,
  yaml: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<OriginService> {
  const fake = await startFakeKubernetes(t);
  const core = fake.client.api(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: system } } });
  const body = (entries: string) => ({ metadata: { name: 'kura-origins' }, data: { 'origins.yaml': head + entries } });
  await core.createNamespacedConfigMap({ namespace: system, body: body(yaml) });
  const service = await startService('origin', {
    KURA_ORIGIN_LISTEN: '127.0.0.1:0',
    KURA_ORIGIN_PREFETCH_LISTEN: '127.0.0.1:0',
    KURA_ORIGIN_METRICS_LISTEN: '127.0.0.1:0',
    KURA_ORIGIN_KUBECONFIG: fake.kubeconfig,
    KURA_ORIGIN_CREDENTIAL_FILE: 'off',
    KURA_ORIGIN_SECRETS_DIRECTORY: `${fake.directory}/secrets`,
    ...environment,
  });
  t.teardown(() => service.stop('SIGKILL'));
  const [url, metricsUrl] = [`http://${service.listening.fetch}`, `http://${service.listening.metrics}`];
  await waitFor('the first document', async () => (await call(metricsUrl, { path: '/readyz' })).status === 200);
  return {
    service,
    fake,
    url,
    fetch: (origin, path, options = {}) =>
      call(url, {
        path: `/fetch/${origin}/${origin}/${path}`,
        ...options,
        headers: { ...callerHeaders({ fill: origin }), ...options.headers },
      }),
    metrics: async () => String((await call(metricsUrl, { path: '/metrics' })).body),
    setOrigins: async (entries) => {
      await core.replaceNamespacedConfigMap({ namespace: system, name: 'kura-origins', body: body(entries) });
    },
  };
}

/** An HTTP server for one test. Returns its `host:port`. */
export async function startScripted(t: ExecutionContext, respond: RequestListener): Promise<{ host: string; requests: IncomingMessage[] }> {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    respond(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

export function codeOf({ body }: Answer): string {
  return (JSON.parse(String(body)) as { code: string }).code;
}
