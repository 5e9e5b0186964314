/** The component tls: clients must use TLS, and Envoy and eds know each other by certificates. */
import { once } from 'node:events';
import { request } from 'node:https';
import { connect as connectTls } from 'node:tls';
import anyTest, { type TestFn } from 'ava';
import { type Authority, createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { call } from '../support/http.ts';
import { waitFor } from '../support/wait.ts';
import type { Cluster } from './contract/cluster.ts';
import { type Drill, startDrill, system } from './support/drill.ts';

const test = anyTest as TestFn;
const serviceName = 'kura.kura-system';
/** Secret → whose certificate it holds. */
const secrets = { 'kura-tls': serviceName, 'kura-envoy-tls': 'kura-envoy', 'kura-eds-tls': 'kura-eds' };
let authority: Authority;
let drill: Drill;

test.before(async (t) => {
  t.timeout(180_000);
  authority = await createAuthority('of kura');
  drill = await startDrill({
    components: ['tls'],
    prepare: async (cluster) => {
      for (const name of Object.keys(secrets) as (keyof typeof secrets)[]) await writeSecret(cluster, name);
    },
  });
});
test.after.always(() => drill?.stop());

/** With a certificate that is new each time. */
async function writeSecret(cluster: Cluster, name: keyof typeof secrets): Promise<void> {
  const { certificate, key } = await authority.issue({ subject: secrets[name], names: [{ type: 'dns', value: secrets[name] }] });
  const stringData = { 'tls.crt': certificate, 'tls.key': key, 'ca.crt': authority.certificate };
  const path = `/api/v1/namespaces/${system}/secrets`;
  const body = { metadata: { name }, type: 'kubernetes.io/tls', stringData };
  const { status } = await cluster.call('POST', path, { body });
  if (status === 409) await cluster.ok('PUT', `${path}/${name}`, { body });
}

/** As a workload that trusts the CA alone, on a connection of its own. */
async function send(method: string, key: string, body?: string): Promise<{ status: number; text: string }> {
  const outgoing = request({
    host: drill.addresses()[0],
    port: 8080,
    path: `/objects/${key}`,
    method,
    ca: authority.certificate,
    servername: serviceName,
    agent: false,
    headers: { authorization: `Bearer ${drill.token}` },
  });
  outgoing.end(body);
  const [response] = await once(outgoing, 'response', { signal: AbortSignal.timeout(5_000) });
  let text = '';
  for await (const chunk of response) text += chunk;
  return { status: response.statusCode as number, text };
}

/** Of the certificate that an Envoy shows to clients. */
async function fingerprint(address: string): Promise<string> {
  const socket = connectTls({ host: address, port: 8080, servername: serviceName, ca: authority.certificate });
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(5_000) });
  const { fingerprint256 } = socket.getPeerCertificate();
  socket.destroy();
  return fingerprint256;
}

test.serial('a workload reads and writes by TLS, and gets no answer without it', async (t) => {
  t.is((await send('PUT', 'vision/x', 'of x')).status, 201);
  t.deepEqual(await send('GET', 'vision/x'), { status: 200, text: 'of x' });
  await t.throwsAsync(call(`http://${drill.addresses()[0]}:8080`, { path: '/objects/vision/x', token: drill.token }));
});

test.serial('every Envoy has heard of the shards, though eds speaks to nobody without a certificate', async (t) => {
  t.is(drill.addresses().length, 2);
  const [eds] = drill.podsOf('kura-eds');
  const socket = connectTls({
    host: eds?.status?.podIP as string,
    port: 18_000,
    servername: 'kura-eds',
    ca: authority.certificate,
    ALPNProtocols: ['h2'],
  });
  const [error] = (await once(socket, 'error', { signal: AbortSignal.timeout(5_000) })) as [Error];
  t.regex(error.message, /certificate required|ECONNRESET/i);
});

test.serial('replaced certificates are taken up by Envoy and eds without a restart', async (t) => {
  const envoy = drill.podsOf('kura-envoy')[0];
  const address = envoy?.status?.podIP as string;
  const { pid } = drill.kubelet.runner(envoy?.metadata?.name as string).container('envoy');
  const before = await fingerprint(address);
  for (const name of Object.keys(secrets) as (keyof typeof secrets)[]) await writeSecret(drill.cluster, name);
  await drill.kubelet.refreshVolumes();
  await waitFor('Envoy shows its new certificate', async () => (await fingerprint(address)) !== before);
  await waitFor('every eds has its new one', async () => {
    const logs = await Promise.all(drill.kubelet.logs('kura-eds', 'eds'));
    return logs.every((log) => log.includes('certificates were replaced'));
  });
  t.is(drill.kubelet.runner(envoy?.metadata?.name as string).container('envoy').pid, pid);
  t.is((await send('GET', 'vision/x')).status, 200);
});
