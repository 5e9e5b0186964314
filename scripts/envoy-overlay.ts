/** Writes the bootstrap of a k8s overlay from envoy/bootstrap.yaml, or checks it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');

/** Reads a file of the repository. */
export function read(...name: readonly string[]): string {
  return readFileSync(path.join(root, ...name), 'utf8');
}

/** Writes the overlay's bootstrap. With `--check` on the command line it writes nothing, and fails when the file differs from `text`. */
export function writeBootstrap(overlay: string, { text, command }: { text: string; command: string }): void {
  const target = path.join(root, 'k8s', 'overlays', overlay, 'bootstrap.yaml');
  if (!process.argv.includes('--check')) writeFileSync(target, text);
  else if (!existsSync(target) || readFileSync(target, 'utf8') !== text) {
    console.error(`${path.relative(root, target)} differs from the output of \`${command}\`: run this command`);
    process.exitCode = 1;
  }
}
