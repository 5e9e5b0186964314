/** Client TLS: the fragment of the component tls merged into the bootstrap, in the real Envoy. */
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect as connectTcp } from 'node:net';
import path from 'node:path';
import { connect } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { parseDocument } from 'yaml';
import { mergeFragments } from '../../services/envoy-bootstrap/fragment.ts';
import { createAuthority } from '../../services/fake-kubernetes/certificates.ts';
import { namedEntry } from '../../services/local/bootstrap.ts';
import { writeCertificate } from '../support/certificates.ts';
import { call } from '../support/http.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { allow } from './support/decisions.ts';
import { type Rig, startRig } from './support/rig.ts';

const component = path.resolve(import.meta.dirname, '..', '..', 'k8s', 'components', 'tls');

async function setting(
  t: ExecutionContext,
  { fast = false } = {},
): Promise<{ rig: Rig; renew: () => Promise<void>; shown: () => Promise<string> }> {
  const folder = await temporaryFolder(t);
  const authority = await createAuthority('of the clients');
  const renew = (): Promise<void> => writeCertificate(path.join(folder, 'tls'), { authority, name: 'kura' });
  await renew();
  await writeCertificate(path.join(folder, 'eds-tls'), { authority, name: 'kura-envoy' });
  const secrets = path.join(folder, 'secrets');
  await mkdir(secrets);
  for (const name of ['server-certificate.yaml', 'eds-client-certificate.yaml', 'eds-authority.yaml']) {
    const text = await readFile(path.join(component, name), 'utf8');
    await writeFile(path.join(secrets, name), text.replaceAll('/etc/kura', folder));
  }
  const fragment = (await readFile(path.join(component, 'fragment-tls.yaml'), 'utf8')).replaceAll('/etc/envoy', secrets);
  const rig = await startRig(t, {
    authority: authority.certificate,
    edit: (bootstrap) => {
      bootstrap.contents = parseDocument(mergeFragments(bootstrap.toString(), [{ name: 'tls', text: fragment }])).contents;
      const listener = namedEntry(bootstrap, ['static_resources', 'listeners'], 'objects');
      const handshake = ['filter_chains', 0, 'transport_socket_connect_timeout'];
      if (listener.getIn(handshake) !== '5s') throw new Error('the handshake has another timeout');
      if (fast) {
        listener.set('listener_filters_timeout', '0.3s');
        listener.setIn(handshake, '0.3s');
      }
    },
  });
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: rig.port, ca: authority.certificate }, () => {
        resolve(socket.getPeerCertificate().fingerprint256);
        socket.destroy();
      });
      socket.on('error', reject);
    });
  return { rig, renew, shown };
}

test('clients reach their objects over TLS and not without it; a renewed certificate is taken up without a failed request', async (t) => {
  const { rig, renew, shown } = await setting(t);
  rig.decide = () => allow(undefined);
  t.is(await rig.call({ token: 'a' }), 404);
  await t.throwsAsync(call(`http://127.0.0.1:${rig.port}`, { path: '/objects/vision/x' }), { code: 'ECONNRESET' });
  // By this a shard knows not to send what came over TLS elsewhere, whatever the client says itself.
  t.is(await rig.call({ prefix: '/direct/', token: 'a', headers: { 'x-forwarded-proto': 'http' } }), 404);
  t.is(rig.recorder.requests.at(-1)?.headers['x-forwarded-proto'], 'https');
  const before = await shown();
  await renew();
  await waitFor('the new certificate is shown', async () => {
    t.is(await rig.call({ token: 'a' }), 404);
    return (await shown()) !== before;
  });
});

test('a connection that is silent, or stops in its handshake, is closed', async (t) => {
  const { rig } = await setting(t, { fast: true });
  for (const text of ['', '\x16', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc']) {
    const socket = connectTcp(rig.port, '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.write(text, 'latin1');
    await once(socket, 'close');
  }
  rig.decide = () => allow(undefined);
  t.is(await rig.call({}), 404);
});
