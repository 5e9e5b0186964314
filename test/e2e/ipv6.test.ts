/** The component ipv6: with its addresses and its fragment, each part is reached over ::1, and clients still over IPv4. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DiscoveryV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { type Document, parseDocument } from 'yaml';
import { mergeFragments } from '../../services/envoy-bootstrap/fragment.ts';
import { namedEntry } from '../../services/local/bootstrap.ts';
import { startCluster } from '../authz/support/authz.ts';
import { startBootstrapEnvoy } from '../support/bootstrap-envoy.ts';
import { call } from '../support/http.ts';
import { startService, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const component = path.resolve(import.meta.dirname, '..', '..', 'k8s', 'components', 'ipv6');
const anyAddress = '[::]:0';

const portOf = (address: string | undefined): number => Number(address?.split(':').at(-1));

function connectTo(bootstrap: Document, cluster: string, port: number): void {
  const at = ['load_assignment', 'endpoints', 0, 'lb_endpoints', 0, 'endpoint', 'address'];
  const address = { socket_address: { address: '::1', port_value: port } };
  namedEntry(bootstrap, ['static_resources', 'clusters'], cluster).setIn(at, bootstrap.createNode(address));
}

test('a request passes Envoy, authz and a shard over ::1, and Envoy answers over IPv4 too', async (t) => {
  const folder = await temporaryFolder(t);
  const cluster = await startCluster(t);
  const kubeconfig = path.join(cluster.directory, 'admin.kubeconfig');
  const { token } = await cluster.run('train');
  const credential = path.join(folder, 'keys');
  await writeFile(credential, 'a-credential-of-this-test-0123456789');
  const start = async (service: string, settings: Record<string, string>) => {
    const started = await startService(service, settings);
    t.teardown(async () => void (await started.stop('SIGKILL')));
    return started.listening;
  };
  const cache = await start('cache', {
    KURA_CACHE_DIRECTORY: path.join(folder, 'data'),
    KURA_CACHE_NAME: 'kura-cache-0/shard-0',
    KURA_CACHE_CREDENTIAL_FILE: credential,
    KURA_CACHE_LISTEN: anyAddress,
    KURA_CACHE_METRICS_LISTEN: anyAddress,
  });
  await cluster.client.api(DiscoveryV1Api).createNamespacedEndpointSlice({
    namespace: 'kura-system',
    body: {
      metadata: { name: 'kura-cache-v6', labels: { 'kubernetes.io/service-name': 'kura-cache' } },
      addressType: 'IPv6',
      endpoints: [{ addresses: ['::1'], conditions: { ready: true }, targetRef: { kind: 'Pod', name: 'kura-cache-0' } }],
      ports: [{ name: 'shard-0', port: portOf(cache.objects) }],
    },
  });
  const eds = await start('eds', { KURA_EDS_KUBECONFIG: kubeconfig, KURA_EDS_LISTEN: anyAddress, KURA_EDS_METRICS_LISTEN: anyAddress });
  const authz = await start('authz', {
    KURA_AUTHZ_KUBECONFIG: kubeconfig,
    KURA_AUTHZ_CREDENTIAL_FILE: credential,
    KURA_AUTHZ_LISTEN: anyAddress,
    KURA_AUTHZ_METRICS_LISTEN: anyAddress,
  });
  const fragment = { name: 'ipv6', text: await readFile(path.join(component, 'fragment-ipv6.yaml'), 'utf8') };
  const envoy = await startBootstrapEnvoy({
    folder,
    authzSocket: path.join(folder, 'unused.sock'),
    edsPort: undefined,
    edit: (bootstrap) => {
      bootstrap.contents = parseDocument(mergeFragments(bootstrap.toString(), [fragment])).contents;
      connectTo(bootstrap, 'eds', portOf(eds.grpc));
      connectTo(bootstrap, 'authz', portOf(authz.grpc));
    },
  });
  t.teardown(() => envoy.stop());
  for (const metrics of [cache.metrics, eds.metrics, authz.metrics]) {
    t.is((await call(`http://[::1]:${portOf(metrics)}`, { path: '/livez' })).status, 200);
  }
  await waitFor('Envoy is ready', async () => (await call(`http://[::1]:${envoy.ports.metrics}`, { path: '/readyz' })).status === 200);
  const read = { path: '/objects/vision/x', token };
  const put = { ...read, method: 'PUT', body: 'of x' };
  // The shard is healthy after its first check.
  await waitFor('the object is stored', async () => (await call(`http://[::1]:${envoy.ports.objects}`, put)).status === 201);
  for (const host of ['[::1]', '127.0.0.1']) {
    const { status, body } = await call(`http://${host}:${envoy.ports.objects}`, read);
    t.deepEqual([status, body.toString()], [200, 'of x'], host);
  }
});

test('the manifest of the component sets these addresses', async (t) => {
  const text = await readFile(path.join(component, 'kustomization.yaml'), 'utf8');
  const ports: Record<string, number> = {
    KURA_CACHE_LISTEN: 7000,
    KURA_CACHE_METRICS_LISTEN: 7100,
    KURA_CACHE_POD_LISTEN: 7099,
    KURA_EDS_LISTEN: 18000,
    KURA_EDS_METRICS_LISTEN: 9904,
    KURA_AUTHZ_LISTEN: 18001,
    KURA_AUTHZ_METRICS_LISTEN: 9903,
  };
  for (const [name, port] of Object.entries(ports)) t.regex(text, new RegExp(`name: ${name}\n +value: "\\[::\\]:${port}"\n`), name);
});
