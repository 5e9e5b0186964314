/**
 * Checks envoy/bootstrap.yaml, or the file in the first argument, against the rules in bootstrap-rules.ts and with the real Envoy (`--mode
 * validate`). Prints each breach in one line.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseDocument } from 'yaml';
import { removeContainerLimit } from '../../services/local/bootstrap.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { bootstrapRules } from './bootstrap-rules.ts';
import { breaches } from './expectation.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const file = process.argv[2] ?? path.join(root, 'envoy', 'bootstrap.yaml');
const text = readFileSync(file, 'utf8');
const found = [...breaches(parse(text), bootstrapRules), ...validationErrors()];
for (const breach of found) console.error(`${path.relative(root, file)}: ${breach}`);
process.exitCode = found.length > 0 ? 1 : 0;

function validationErrors(): string[] {
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const identity = ['--service-node', 'check', '--service-cluster', 'check', '--service-zone', 'check'];
  const document = parseDocument(text);
  if (!hasMemoryCgroup()) removeContainerLimit(document);
  const here = document.toString().replaceAll('/etc/envoy/', `${path.join(root, 'envoy')}/`);
  const words = ['--mode', 'validate', '--config-yaml', here, '--log-level', 'error', ...identity];
  const { status, error, stderr } = spawnSync(binary, words, { encoding: 'utf8' });
  if (status === 0) return [];
  return [`envoy --mode validate: is an error; must be accepted: Envoy would not start: ${error?.message ?? stderr.trim()}`];
}

/** Containers have one of these files. The host of version 2 has none. */
function hasMemoryCgroup(): boolean {
  return existsSync('/sys/fs/cgroup/memory.current') || existsSync('/sys/fs/cgroup/memory');
}
