/** The fake Kubernetes API passes the contract tests, as a real kube-apiserver does (test/kubernetes). */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { defineContract } from '../kubernetes/contract/contract.ts';
import { startService } from '../support/service.ts';

defineContract(async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'kura-test-'));
  const start = (listen: string) =>
    startService('fake-kubernetes', {
      KURA_KUBERNETES_LISTEN: listen,
      KURA_KUBERNETES_DIRECTORY: directory,
      KURA_KUBERNETES_BOOKMARK: '200ms',
    });
  let service = await start('127.0.0.1:0');
  const address = String(service.listening.https);
  return {
    source: {
      kubeconfig: path.join(directory, 'admin.kubeconfig'),
      signingKeyFile: path.join(directory, 'sa.key'),
      bookmarkWithinMs: 5_000,
      restart: async () => {
        await service.stop('SIGKILL');
        service = await start(address);
      },
    },
    stop: async () => {
      await service.stop('SIGKILL');
      await rm(directory, { recursive: true, force: true });
    },
  };
});
