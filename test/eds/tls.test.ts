/** Mutual TLS between Envoy and eds: the fragment of the component tls in the real Envoy, and eds as a process. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { connect as connectTls } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { writeCertificate } from '../support/certificates.ts';
import { startService, temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { startCluster } from './support/cluster.ts';
import { edsTransportSocket } from './support/data-path.ts';
import { type Envoy, startEnvoy } from './support/envoy.ts';

const pods = [{ name: 'kura-cache-0', address: '10.0.0.1' }];
const expected = { 'kura-cache-0/shard-0': '10.0.0.1 HEALTHY' };

/** An Envoy with the transport socket of the fragment, its secrets read from `certificates`. */
async function startTlsEnvoy(t: ExecutionContext, { eds, certificates }: { eds: string; certificates: string }): Promise<Envoy> {
  const folder = await temporaryFolder(t);
  const transportSocket = await edsTransportSocket(folder, certificates);
  const envoy = await startEnvoy({ folder, eds: [eds], follow: ['eds'], transportSocket });
  t.teardown(() => envoy.stop());
  return envoy;
}

test.serial(
  'an Envoy with a certificate of the CA follows eds, also during a rotation of all certificates; others get nothing',
  async (t) => {
    const cluster = await startCluster(t);
    await cluster.set(pods);
    const authority = await createAuthority('of kura');
    const folder = await temporaryFolder(t);
    const [ofEds, ofEnvoy, ofStranger] = ['eds', 'envoy', 'stranger'].map((name) => path.join(folder, name)) as [string, string, string];
    await writeCertificate(ofEds, { authority, name: 'kura-eds' });
    await writeCertificate(ofEnvoy, { authority, name: 'kura-envoy' });
    const eds = await cluster.startEds({ KURA_EDS_TLS_DIRECTORY: ofEds });
    const address = eds.listening.grpc as string;
    const envoy = await startTlsEnvoy(t, { eds: address, certificates: ofEnvoy });
    await waitFor('the first table', async () => JSON.stringify(await envoy.table('eds')) === JSON.stringify(expected));

    await writeCertificate(ofStranger, { authority: await createAuthority('of another owner'), name: 'kura-envoy' });
    await writeFile(path.join(ofStranger, 'ca.crt'), authority.certificate);
    const stranger = await startTlsEnvoy(t, { eds: address, certificates: ofStranger });
    const plain = await startEnvoy({ folder: await temporaryFolder(t), eds: [address], follow: ['eds'] });
    t.teardown(() => plain.stop());
    for (const refused of [stranger, plain]) {
      await waitFor('it has tried', async () => (await refused.stat('cluster.eds.update_attempt')) > 1);
      t.deepEqual(await refused.table('eds'), {});
    }

    const shown = (): Promise<string> => fingerprint(address, authority.certificate, ofEnvoy);
    const before = await shown();
    await writeCertificate(ofEds, { authority, name: 'kura-eds' });
    await writeCertificate(ofEnvoy, { authority, name: 'kura-envoy' });
    await waitFor('eds shows its new certificate', async () => (await shown()) !== before);
    const another = await startTlsEnvoy(t, { eds: address, certificates: ofEnvoy });
    await waitFor('an Envoy that connects now', async () => JSON.stringify(await another.table('eds')) === JSON.stringify(expected));
    await cluster.set([]);
    await waitFor('the first Envoy has heard too', async () => JSON.stringify(await envoy.table('eds')) === '{}');
  },
);

test.serial('an Envoy does not accept another server of the same CA as eds', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set(pods);
  const authority = await createAuthority('of kura');
  const folder = await temporaryFolder(t);
  await writeCertificate(path.join(folder, 'eds'), { authority, name: 'not-eds' });
  await writeCertificate(path.join(folder, 'envoy'), { authority, name: 'kura-envoy' });
  const eds = await cluster.startEds({ KURA_EDS_TLS_DIRECTORY: path.join(folder, 'eds') });
  const envoy = await startTlsEnvoy(t, { eds: eds.listening.grpc as string, certificates: path.join(folder, 'envoy') });
  await waitFor('it has tried', async () => (await envoy.stat('cluster.xds.ssl.fail_verify_san')) > 0);
  t.deepEqual(await envoy.table('eds'), {});
});

test.serial('invalid certificates stop the start with a reason, and later change nothing', async (t) => {
  const cluster = await startCluster(t);
  await cluster.set(pods);
  const authority = await createAuthority('of kura');
  const folder = await temporaryFolder(t);
  const start = (): Promise<unknown> =>
    startService('eds', { KURA_EDS_LISTEN: '127.0.0.1:0', KURA_EDS_METRICS_LISTEN: '127.0.0.1:0', KURA_EDS_TLS_DIRECTORY: folder });
  await t.throwsAsync(start, { message: /the certificates in .* cannot be used: ENOENT.*tls\.crt/ });
  await writeCertificate(folder, { authority, name: 'kura-eds' });
  const { key } = await authority.issue({ subject: 'another', names: [] });
  await writeFile(path.join(folder, 'tls.key'), key);
  await t.throwsAsync(start, { message: /the certificates in .* cannot be used: .*key values mismatch/ });

  await writeCertificate(folder, { authority, name: 'kura-eds' });
  const eds = await cluster.startEds({ KURA_EDS_TLS_DIRECTORY: folder });
  for (const name of ['tls.crt', 'ca.crt']) {
    await writeCertificate(folder, { authority, name: 'kura-eds' });
    await writeFile(path.join(folder, name), '');
    const told = eds.output().length;
    await waitFor('the log line', () => eds.output().slice(told).includes('keeping the previous certificates'));
  }
  t.truthy(await fingerprint(eds.listening.grpc as string, authority.certificate, undefined));
});

/** Of the certificate that eds shows. */
async function fingerprint(address: string, ca: string, client: string | undefined): Promise<string> {
  const own =
    client === undefined ? {} : { cert: await readFile(path.join(client, 'tls.crt')), key: await readFile(path.join(client, 'tls.key')) };
  const socket = connectTls({
    host: '127.0.0.1',
    port: Number(address.split(':').at(-1)),
    ca,
    servername: 'kura-eds',
    ALPNProtocols: ['h2'],
    ...own,
  });
  try {
    await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
    return socket.getPeerCertificate().fingerprint256;
  } finally {
    socket.on('error', () => undefined);
    socket.destroy();
  }
}
