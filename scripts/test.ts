/**
 * `npm test [-- AVA_ARGUMENT …]`: runs the pure and wire rings concurrently, then the files under test/e2e one at a time, because each
 * starts a whole system. Arguments are passed to ava and replace this selection.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { missingForPlane } from './kubernetes-tools.ts';

const root = path.resolve(import.meta.dirname, '..');
// Node's compile cache: the tests start hundreds of processes, which would all compile the same files.
process.env.NODE_COMPILE_CACHE ??= path.join(root, '.tools', 'compile-cache');
const own = process.argv.slice(2);
const rings: readonly (readonly string[])[] =
  own.length > 0
    ? [['--concurrency=1', ...own]]
    : [
        ['--concurrency=2', 'test/!(e2e)/**/*.test.ts'],
        ['--concurrency=1', 'test/e2e/**/*.test.ts'],
      ];

for (const args of rings) {
  const { status } = spawnSync('ava', args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0) process.exitCode = 1;
}
if (own.length === 0) {
  const missing = missingForPlane();
  const need = missing === undefined ? '' : `, which needs ${missing}`;
  console.log(`not run: the tests on a real Kubernetes control plane, npm run test:kubernetes${need}`);
}
