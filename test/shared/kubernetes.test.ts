/** The client of the Kubernetes API: few connections, and files that are rotated. */
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import path from 'node:path';
import { AuthenticationV1Api } from '@kubernetes/client-node';
import test from 'ava';
import { TokenReviewer } from '../../services/authz/identity/token-review.ts';
import { servingCertificate } from '../../services/fake-kubernetes/certificates.ts';
import { connectKubernetes } from '../../services/shared/kubernetes.ts';
import { listen } from '../../services/shared/listen.ts';
import { temporaryFolder } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';

const status = {
  authenticated: true,
  audiences: ['kura'],
  user: { username: 'system:serviceaccount:vision:trainer', groups: ['system:serviceaccounts'] },
};

function review(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  request.on('end', () => {
    const body = { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec: {}, status };
    setTimeout(() => response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify(body)), 5);
  });
}

function kubeconfigOf(cluster: object, user: object): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  });
}

test('300 concurrent reviews use at most 4 connections, and at most 32 run at once', async (t) => {
  const folder = await temporaryFolder(t);
  let connections = 0;
  const server = createServer(review).on('connection', () => connections++);
  const { address, close } = await listen(server, { host: '127.0.0.1', port: 0 });
  const kubeconfig = path.join(folder, 'kubeconfig');
  await writeFile(kubeconfig, kubeconfigOf({ server: `http://${address}`, 'insecure-skip-tls-verify': true }, { token: 'own' }));
  const client = connectKubernetes({ kubeconfig });
  t.teardown(async () => {
    await client.close();
    await close();
  });
  const reviewer = new TokenReviewer({ client, audience: 'kura', deadlineMs: 10_000, maxInFlight: 32, allowUnbound: true });
  let most = 0;
  const answers = await Promise.all(
    Array.from({ length: 300 }, async (_, index) => {
      const answer = reviewer.review(`token-${index}`, { bypassServerCache: false });
      most = Math.max(most, reviewer.inFlight);
      const result = await answer;
      most = Math.max(most, reviewer.inFlight);
      return result;
    }),
  );
  // A busy machine may not give each of them a turn in time.
  const known = answers.filter(({ kind }) => kind === 'identity').length;
  t.true(known >= 32, `${known} identities`);
  t.true(answers.every((answer) => answer.kind === 'identity' || (answer.kind === 'unavailable' && answer.isOverload === true)));
  t.true(connections >= 1 && connections <= 4, `${connections} connections`);
  t.true(most <= 32, `${most} under way`);
});

test('a rotated token file and a rotated CA file take effect', async (t) => {
  const folder = await temporaryFolder(t);
  const seen: (string | undefined)[] = [];
  const [first, second] = await Promise.all(
    ['a', 'b'].map(async (name) => {
      const directory = path.join(folder, name);
      await mkdir(directory);
      return await servingCertificate(directory);
    }),
  );
  const server = createTlsServer({ cert: first?.certificate, key: first?.key }, (request, response) => {
    seen.push(request.headers.authorization);
    review(request, response);
  });
  const { address, close } = await listen(server, { host: '127.0.0.1', port: 0 });
  const [kubeconfig, ca, token] = ['kubeconfig', 'ca.crt', 'token'].map((name) => path.join(folder, name)) as [string, string, string];
  await writeFile(ca, first?.authority ?? '');
  await writeFile(token, 'first\n');
  const user = { 'auth-provider': { name: 'tokenFile', config: { tokenFile: token } } };
  await writeFile(kubeconfig, kubeconfigOf({ server: `https://${address}`, 'certificate-authority': ca }, user));
  const client = connectKubernetes({ kubeconfig });
  t.teardown(async () => {
    await client.close();
    await close();
  });
  const api = client.api(AuthenticationV1Api);
  const call = () => api.createTokenReview({ body: { spec: { token: 'x' } } });
  await call();
  t.is(seen.at(-1), 'Bearer first');
  await writeFile(token, 'second\n');
  await waitFor('the new token is used', async () => (await call()) && seen.at(-1) === 'Bearer second');

  server.setSecureContext({ cert: second?.certificate ?? '', key: second?.key ?? '' });
  server.closeAllConnections();
  await t.throwsAsync(async () => {
    for (let tries = 0; tries < 3; tries++) await call();
  });
  await writeFile(ca, second?.authority ?? '');
  await waitFor('the new CA is used', async () => (await call()) !== undefined);
  t.true(seen.length > 2);
});
