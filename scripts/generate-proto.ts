/**
 * Writes proto/generated: TypeScript types of the Envoy messages and services that kura uses. The protos are read from
 * @grpc/grpc-js-xds, so only the types are committed. `--check` writes nothing and fails if the committed files are outdated.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { protoFiles, protoIncludeDirs, protoOptions } from '../proto/load.ts';

const root = path.resolve(import.meta.dirname, '..');
const target = path.join(root, 'proto', 'generated');

if (process.argv.includes('--check')) {
  const scratch = mkdtempSync(path.join(tmpdir(), 'kura-proto-'));
  try {
    generate(scratch);
    const differing = differences({ expected: scratch, actual: target });
    if (differing.length > 0) {
      console.error(`proto/generated is outdated: run \`npm run generate\`; different files: ${differing.slice(0, 5).join(', ')}`);
      process.exitCode = 1;
    }
  } finally {
    rmSync(scratch, { recursive: true });
  }
} else {
  rmSync(target, { recursive: true, force: true });
  generate(target);
}

function generate(outDir: string): void {
  // The files come first, because --includeDirs consumes all following arguments.
  const words = [
    ...protoFiles,
    ...Object.entries({ ...protoOptions, longs: protoOptions.longs.name, enums: protoOptions.enums.name }).map(
      ([name, value]) => `--${name}=${value}`,
    ),
    '--grpcLib=@grpc/grpc-js',
    '--importFileExtension=.ts',
    `--outDir=${outDir}`,
    // Relative, because the generated files contain these paths.
    ...protoIncludeDirs.map((dir) => `--includeDirs=${path.relative(root, dir)}`),
  ];
  execFileSync('proto-loader-gen-types', words, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
}

function differences({ expected, actual }: { expected: string; actual: string }): string[] {
  const names = new Set([...listFiles(expected), ...listFiles(actual)]);
  return [...names].filter((name) => readIfPresent(path.join(expected, name)) !== readIfPresent(path.join(actual, name)));
}

function listFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name)));
}

function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
