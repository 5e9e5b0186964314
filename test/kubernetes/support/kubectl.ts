/** kubectl, as an operator runs it from the clone. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { binariesDirectory } from '../plane/plane.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..', '..');

interface Output {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  /** Whatever its status is. */
  run(...args: readonly string[]): Promise<Output>;
  /** What it prints; throws what it complains of when it fails. */
  ok(...args: readonly string[]): Promise<string>;
  json<T>(...args: readonly string[]): Promise<T>;
}

/** `cache` is a folder for what it remembers of the API. */
export function createKubectl({ kubeconfig, cache }: { kubeconfig: string; cache: string }): Kubectl {
  const kubectl: Kubectl = {
    run: async (...args) => {
      const words = [`--kubeconfig=${kubeconfig}`, `--cache-dir=${cache}`, ...args];
      return await run(path.join(binariesDirectory, 'kubectl'), words, { cwd: root, maxBuffer: 2 ** 26 }).then(
        ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
        ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ status: code, stdout, stderr }),
      );
    },
    ok: async (...args) => {
      const { status, stdout, stderr } = await kubectl.run(...args);
      if (status !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
      return stdout;
    },
    json: async <T>(...args: readonly string[]) => JSON.parse(await kubectl.ok(...args, '-o', 'json')) as T,
  };
  return kubectl;
}
