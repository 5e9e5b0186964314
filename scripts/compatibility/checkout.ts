/** The files of another commit, and its programs. */
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import type * as Programs from '../../services/local/programs.ts';

export interface Checkout {
  readonly name: string;
  readonly root: string;
  readonly envoyBinary: string;
  /** The programs as this commit starts them, with the settings that it knows. */
  readonly programs: typeof Programs;
}

/** Extracts a commit, once, and runs its setup. Returns its folder. An archive leaves nothing in the repository, unlike a worktree. */
export function extractCheckout(root: string, commit: string): string {
  const id = execFileSync('git', ['rev-parse', '--verify', `${commit}^{commit}`], { cwd: root, encoding: 'utf8' }).trim();
  const folder = path.join(root, '.tools', 'compatibility', id);
  if (!existsSync(folder)) {
    const scratch = `${folder}.${process.pid}`;
    mkdirSync(scratch, { recursive: true });
    try {
      const archive = execFileSync('git', ['archive', id], { cwd: root, maxBuffer: 1 << 30 });
      execFileSync('tar', ['-x', '-C', scratch], { input: archive });
      renameSync(scratch, folder);
    } catch (error) {
      rmSync(scratch, { recursive: true, force: true });
      throw error;
    }
  }
  linkEnvoys(path.join(root, '.tools'), path.join(folder, '.tools'));
  execFileSync('node', ['scripts/setup.mjs'], { cwd: folder, stdio: 'inherit' });
  return folder;
}

export async function loadCheckout(root: string, name: string): Promise<Checkout> {
  const load = (file: string): Promise<unknown> => import(path.join(root, 'services', 'local', file));
  const { envoyBinary } = (await load('envoy-binary.ts')) as typeof import('../../services/local/envoy-binary.ts');
  return {
    name,
    root,
    envoyBinary: envoyBinary({ root, override: undefined }),
    programs: (await load('programs.ts')) as typeof Programs,
  };
}

/** Setup downloads the Envoy of the commit, unless this machine has it. */
function linkEnvoys(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from).filter((each) => each.startsWith('envoy-'))) {
    if (!existsSync(path.join(to, name))) linkSync(path.join(from, name), path.join(to, name));
  }
}
