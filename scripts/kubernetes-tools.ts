/** The requirements of the tests on a real Kubernetes control plane. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { binariesDirectory, kubernetesVersion } from '../test/kubernetes/plane/plane.ts';

const root = path.resolve(import.meta.dirname, '..');
const helmVersion = '4.3.1';
/** Helm, for the tests of the chart. */
export const helmBinary = path.join(root, '.tools', `helm-${helmVersion}`, 'helm');
const versitygwVersion = '1.8.0';
/** A server with the interface of S3 that verifies signatures, for the test of an origin. */
export const versitygwBinary = path.join(root, '.tools', `versitygw-${versitygwVersion}`, 'versitygw');
const binaries = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kubectl'];
/** The same version as in test/kubernetes/plane/go.mod. GOTOOLCHAIN=local prevents Go from downloading another version. */
const minGo = [1, 26] as const;

/** Builds the control plane unless it exists. Returns the reason of a failure, as the rest of a sentence. */
export function buildPlane(): string | undefined {
  const missing = missingForPlane();
  if (missing !== undefined) return `needs ${missing}`;
  if (isPlaneBuilt()) return undefined;
  console.log(
    `building the Kubernetes ${kubernetesVersion} control plane into ${path.relative(root, binariesDirectory)}; this takes some minutes`,
  );
  const script = path.join(root, 'test', 'kubernetes', 'plane', 'build.sh');
  const { status } = spawnSync('bash', [script, binariesDirectory, helmBinary, versitygwBinary], { stdio: 'inherit' });
  return status === 0 ? undefined : 'could not build the control plane: see the output of Go above';
}

function isPlaneBuilt(): boolean {
  return [helmBinary, versitygwBinary, ...binaries.map((name) => path.join(binariesDirectory, name))].every((file) => existsSync(file));
}

/** Returns the first missing requirement in one line, or undefined. */
export function missingForPlane(): string | undefined {
  return missingTool() ?? missingGo();
}

function missingTool(): string | undefined {
  const packages = { ip: 'iproute2', unshare: 'util-linux', nsenter: 'util-linux' };
  const missing = Object.entries(packages).find(([command]) => spawnSync(command, ['-V']).error !== undefined);
  return missing && `${missing[0]} (Debian: ${missing[1]}), for a separate network namespace`;
}

function missingGo(): string | undefined {
  if (isPlaneBuilt()) return undefined;
  const { stdout, error } = spawnSync('go', ['version'], { encoding: 'utf8' });
  const wanted = `Go ${minGo.join('.')} or later on the PATH, to build Kubernetes ${kubernetesVersion} from source`;
  if (error !== undefined) return `${wanted}; Go is not installed`;
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(stdout) ?? [];
  const isNewEnough = Number(major) > minGo[0] || (Number(major) === minGo[0] && Number(minor) >= minGo[1]);
  return isNewEnough ? undefined : `${wanted}; found ${stdout.trim()}`;
}
