/**
 * `npm run test:kubernetes [-- AVA_ARGUMENT …]`: runs the tests against a real Kubernetes control plane. The first run builds the
 * binaries into .tools/kubernetes-<version> in about 5 minutes, or reports a missing requirement. The tests run in a separate network
 * namespace.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { buildPlane } from './kubernetes-tools.ts';

const root = path.resolve(import.meta.dirname, '..');

const problem = buildPlane();
if (problem !== undefined) {
  console.error(`test:kubernetes ${problem}`);
  process.exit(1);
}
const config = path.join(root, 'test', 'kubernetes', 'ava.config.mjs');
const ava = ['ava', '--config', config, '--concurrency=2', ...process.argv.slice(2)];
// Other users become root in a user namespace, because the drills add addresses and mount folders.
const namespaces = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
const words = [...namespaces, '--', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...ava];
process.exitCode = spawnSync('unshare', words, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;
