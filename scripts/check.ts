/** `npm run check`: runs all static checks, and fails when one of them fails. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const checks: readonly { name: string; command: string; args: readonly string[] }[] = [
  { name: 'types', command: 'tsc', args: ['--noEmit'] },
  { name: 'lint and format', command: 'biome', args: ['check', '--error-on-warnings', '.'] },
  { name: 'unused files, exports and dependencies', command: 'knip', args: [] },
  { name: 'borders between folders', command: 'node', args: ['scripts/checks/borders.ts'] },
  { name: 'YAML style', command: 'node', args: ['scripts/checks/yaml.ts'] },
  { name: 'citations of pages, files and headings', command: 'node', args: ['scripts/checks/citations.ts'] },
  { name: 'Envoy bootstrap, with each combination of components', command: 'node', args: ['scripts/checks/envoy-bootstrap.ts'] },
  { name: 'generated components of k8s', command: 'node', args: ['scripts/generate-components.ts', '--check'] },
  { name: 'docs/reference.md', command: 'node', args: ['scripts/generate-reference.ts', '--check'] },
  { name: 'alerts for the Prometheus operator', command: 'node', args: ['scripts/generate-monitoring.ts', '--check'] },
  { name: 'generated types', command: 'node', args: ['scripts/generate-proto.ts', '--check'] },
];

for (const { name, command, args } of checks) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name}`);
  if (status !== 0) process.exitCode = 1;
}
