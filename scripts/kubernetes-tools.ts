/** What the tests on a real Kubernetes control plane need of the machine. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { binariesDirectory, kubernetesVersion } from '../test/kubernetes/plane/plane.ts';

const root = path.resolve(import.meta.dirname, '..');
const binaries = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl'];
/** test/kubernetes/plane/go.mod says so too; GOTOOLCHAIN=local keeps Go from fetching another one. */
const leastGo = [1, 26] as const;

/** Builds the control plane where it is not there yet. Returns why there is none, as the rest of a sentence. */
export function buildPlane(): string | undefined {
  const missing = missingForPlane();
  if (missing !== undefined) return `needs ${missing}`;
  if (isPlaneBuilt()) return undefined;
  console.log(
    `building the Kubernetes ${kubernetesVersion} control plane into ${path.relative(root, binariesDirectory)}; this takes some minutes`,
  );
  const script = path.join(root, 'test', 'kubernetes', 'plane', 'build.sh');
  const { status } = spawnSync('bash', [script, binariesDirectory], { stdio: 'inherit' });
  return status === 0 ? undefined : 'could not build the control plane; Go has said why above';
}

function isPlaneBuilt(): boolean {
  return binaries.every((name) => existsSync(path.join(binariesDirectory, name)));
}

/** What is missing, in a line; undefined where nothing is. */
export function missingForPlane(): string | undefined {
  return missingTool() ?? missingGo();
}

function missingTool(): string | undefined {
  const packages = { ip: 'iproute2', unshare: 'util-linux', nsenter: 'util-linux' };
  const missing = Object.entries(packages).find(([command]) => spawnSync(command, ['-V']).error !== undefined);
  return missing && `${missing[0]} (Debian: ${missing[1]}), for a network namespace of its own`;
}

function missingGo(): string | undefined {
  if (isPlaneBuilt()) return undefined;
  const { stdout, error } = spawnSync('go', ['version'], { encoding: 'utf8' });
  const wanted = `Go ${leastGo.join('.')} or later on the PATH, to build Kubernetes ${kubernetesVersion} from source`;
  if (error !== undefined) return `${wanted}; there is none`;
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(stdout) ?? [];
  const isNewEnough = Number(major) > leastGo[0] || (Number(major) === leastGo[0] && Number(minor) >= leastGo[1]);
  return isNewEnough ? undefined : `${wanted}; there is ${stdout.trim()}`;
}
