/** A bootstrap that an overlay of k8s has of its own, written from envoy/bootstrap.yaml and checked against it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');

/** A file of the clone. */
export function read(...name: readonly string[]): string {
  return readFileSync(path.join(root, ...name), 'utf8');
}

/** Writes the overlay's bootstrap; with `--check` on the command line it only fails, and says what writes it, when that is another. */
export function writeBootstrap(overlay: string, { text, command }: { text: string; command: string }): void {
  const target = path.join(root, 'k8s', 'overlays', overlay, 'bootstrap.yaml');
  if (!process.argv.includes('--check')) writeFileSync(target, text);
  else if (!existsSync(target) || readFileSync(target, 'utf8') !== text) {
    console.error(`${path.relative(root, target)} is not what \`${command}\` writes`);
    process.exitCode = 1;
  }
}
