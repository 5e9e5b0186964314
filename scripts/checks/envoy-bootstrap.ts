/**
 * Checks envoy/bootstrap.yaml alone and with the fragments of each combination of components, or the file in the first argument: against
 * the rules in bootstrap-rules.ts and with the real Envoy (`--mode validate`). Prints each breach in one line.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseDocument } from 'yaml';
import { removeContainerLimit } from '../../services/local/bootstrap.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { bootstrapWith, componentsWithFragment } from '../envoy-bootstrap.ts';
import { bootstrapRules } from './bootstrap-rules.ts';
import { breaches } from './expectation.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const [file] = process.argv.slice(2);
const subjects =
  file === undefined
    ? combinations(componentsWithFragment).map((names) => ({
        name: ['envoy/bootstrap.yaml', ...names].join(' + '),
        text: bootstrapWith(names),
        rules: names.includes('authz-deployment') ? withoutAuthzSocket() : bootstrapRules,
      }))
    : [{ name: path.relative(root, file), text: readFileSync(file, 'utf8'), rules: bootstrapRules }];
for (const { name, text, rules } of subjects) {
  for (const breach of [...breaches(parse(text), rules), ...validationErrors(text)]) {
    console.error(`${name}: ${breach}`);
    process.exitCode = 1;
  }
}

function combinations(names: readonly string[]): string[][] {
  const found: string[][] = [[]];
  for (const name of names) found.push(...found.map((each) => [...each, name]));
  return found;
}

function withoutAuthzSocket(): typeof bootstrapRules {
  return bootstrapRules.filter(([at]) => !(at.includes('clusters[authz]') && at.endsWith('pipe.path')));
}

function validationErrors(text: string): string[] {
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const identity = ['--service-node', 'check', '--service-cluster', 'check', '--service-zone', 'check'];
  const document = parseDocument(text);
  if (!hasMemoryCgroup()) removeContainerLimit(document);
  const here = document.toString().replaceAll(/\/etc\/envoy\/([\w.-]+)/g, (_, name: string) => sourceOf(name));
  const words = ['--mode', 'validate', '--config-yaml', here, '--log-level', 'error', ...identity];
  const { status, error, stderr } = spawnSync(binary, words, { encoding: 'utf8' });
  if (status === 0) return [];
  return [`envoy --mode validate: is an error; must be accepted: Envoy would not start: ${error?.message ?? stderr.trim()}`];
}

/** The file of the ConfigMap kura-envoy in this repository. */
function sourceOf(name: string): string {
  const components = path.join(root, 'k8s', 'components');
  const folders = [path.join(root, 'envoy'), ...readdirSync(components).map((component) => path.join(components, component))];
  return folders.map((folder) => path.join(folder, name)).find((candidate) => existsSync(candidate)) ?? `/etc/envoy/${name}`;
}

/** Containers have one of these files. The host of version 2 has none. */
function hasMemoryCgroup(): boolean {
  return existsSync('/sys/fs/cgroup/memory.current') || existsSync('/sys/fs/cgroup/memory');
}
