/**
 * `npm run test:kubernetes [-- AVA_ARGUMENT …]`: the tests against a real Kubernetes control plane. Its binaries are built once, about 6 minutes, into the
 * git-ignored .tools/kubernetes-<version>; what is missing for that is said in one line. The tests run in a network namespace of their own.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { binariesDirectory, kubernetesVersion } from '../test/kubernetes/plane/plane.ts';
import { isPlaneBuilt, missingForPlane } from './kubernetes-tools.ts';

const root = path.resolve(import.meta.dirname, '..');

const missing = missingForPlane();
if (missing !== undefined) {
  console.error(`test:kubernetes needs ${missing}`);
  process.exit(1);
}
if (!isPlaneBuilt()) {
  console.log(
    `building the Kubernetes ${kubernetesVersion} control plane into ${path.relative(root, binariesDirectory)}; this takes some minutes`,
  );
  const { status } = spawnSync('bash', [path.join(root, 'test', 'kubernetes', 'plane', 'build.sh'), binariesDirectory], {
    stdio: 'inherit',
  });
  if (status !== 0) {
    console.error('test:kubernetes could not build the control plane; Go has said why above');
    process.exit(1);
  }
}
const config = path.join(root, 'test', 'kubernetes', 'ava.config.mjs');
const ava = ['ava', '--config', config, '--concurrency=2', ...process.argv.slice(2)];
// Whoever is not root becomes it in a namespace of users: the drills add addresses and mount folders.
const namespaces = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
const words = [...namespaces, '--', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...ava];
process.exitCode = spawnSync('unshare', words, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;
