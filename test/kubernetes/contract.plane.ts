/** The contract tests on a real kube-apiserver. A failure here means that the contract is wrong, and perhaps the fake API too. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { defineContract } from './contract/contract.ts';
import { startPlane } from './plane/plane.ts';

defineContract(async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'kura-plane-'));
  const plane = await startPlane({ directory });
  return {
    source: {
      kubeconfig: plane.kubeconfig,
      signingKeyFile: plane.signingKeyFile,
      bookmarkWithinMs: 90_000,
      restart: async () => {
        await plane.signal('apiserver', 'SIGKILL');
        await plane.start('apiserver');
      },
    },
    stop: async () => {
      await plane.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
});
