/**
 * `npm run test:kubernetes [-- AVA_ARGUMENT …]`: runs the tests on a real Kubernetes control plane, in a network namespace. The first run
 * builds the control plane into the git-ignored .tools/kubernetes-<version>, in about 5 minutes. A missing requirement is reported in one
 * line.
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
// The drills add addresses and mount folders. Other users than root become root in a user namespace.
const namespaces = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
const words = [...namespaces, '--', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...ava];
process.exitCode = spawnSync('unshare', words, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;
