/**
 * `npm run test:kubernetes [-- AVA_ARGUMENT …]`: the tests against a real Kubernetes control plane. Its binaries are built once, about 6 minutes, into the
 * git-ignored .tools/kubernetes-<version>; what is missing for that is said in one line.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { binariesDirectory, kubernetesVersion } from '../test/kubernetes/plane/plane.ts';

const root = path.resolve(import.meta.dirname, '..');
const binaries = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl'];
/** go.mod beside build.sh says so too; GOTOOLCHAIN=local keeps Go from fetching another one. */
const leastGo = [1, 26] as const;

const missing = missingForBuild();
if (missing !== undefined) {
  console.error(`test:kubernetes needs ${missing}`);
  process.exit(1);
}
if (!isBuilt()) {
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
const args = ['--config', config, '--concurrency=1', ...process.argv.slice(2)];
process.exitCode = spawnSync('ava', args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1;

function isBuilt(): boolean {
  return binaries.every((name) => existsSync(path.join(binariesDirectory, name)));
}

function missingForBuild(): string | undefined {
  if (isBuilt()) return undefined;
  const { stdout, error } = spawnSync('go', ['version'], { encoding: 'utf8' });
  const wanted = `Go ${leastGo.join('.')} or later on the PATH, to build Kubernetes ${kubernetesVersion} from source`;
  if (error !== undefined) return `${wanted}; there is none`;
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(stdout) ?? [];
  const isNewEnough = Number(major) > leastGo[0] || (Number(major) === leastGo[0] && Number(minor) >= leastGo[1]);
  return isNewEnough ? undefined : `${wanted}; there is ${stdout.trim()}`;
}
