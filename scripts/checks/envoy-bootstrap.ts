/**
 * `npm run check:envoy [-- FILE]`: checks envoy/bootstrap.yaml, or FILE, against the rules in bootstrap-rules.ts and with the real Envoy
 * (`--mode validate`). Prints each breach in one line, with line and column of the file.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Document, LineCounter, type Node, parseDocument } from 'yaml';
import { removeContainerLimit } from '../../services/local/bootstrap.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { bootstrapRules } from './bootstrap-rules.ts';
import { nodeAt, refusalOf, refusedNode } from './envoy-refusal.ts';
import { breaches, steps } from './expectation.ts';

/** Envoy 1.38 does not know `max_connection_duration_jitter`. */
const minEnvoyMinor = 39;
const maxEnvoyMs = 60_000;

const root = path.resolve(import.meta.dirname, '..', '..');
const folder = process.env.npm_lifecycle_event === 'check:envoy' ? process.env.INIT_CWD : undefined;
const file = process.argv[2] === undefined ? path.join(root, 'envoy', 'bootstrap.yaml') : path.resolve(folder ?? '.', process.argv[2]);
const shown = process.argv[2] ?? path.relative(root, file);

const found = existsSync(file) ? check(readFileSync(file, 'utf8')) : ['the file does not exist'];
for (const breach of found) console.error(`${shown}:${breach.startsWith(':') ? breach.slice(1) : ` ${breach}`}`);
process.exitCode = found.length > 0 ? 1 : 0;

/** A breach with a place begins with `:LINE:COLUMN: `. */
function check(text: string): string[] {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const at = (offset: number | undefined): string => {
    if (offset === undefined) return '';
    const { line, col } = counter.linePos(offset);
    return `:${line}:${col}: `;
  };
  const place = (node: Node | undefined): string => at(node?.range?.[0]);
  if (document.errors.length > 0) return document.errors.map(({ message, pos }) => `${at(pos[0])}is not YAML: ${message}`);
  const rules = breaches(document.toJS(), bootstrapRules).map((breach) => {
    const rule = bootstrapRules.find(([name]) => breach.startsWith(`${name}: `));
    return `${place(nodeAt(document, document.contents, steps(rule?.[0] ?? '')))}${breach}`;
  });
  return [...rules, ...refusals(document, place)];
}

function refusals(document: Document, place: (node: Node | undefined) => string): string[] {
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const old = versionFault(binary);
  if (old !== undefined) return [old];
  if (!hasMemoryCgroup()) removeContainerLimit(document);
  const filesHere = `${path.join(root, 'envoy')}/`;
  const here = document.toString().replaceAll('/etc/envoy/', filesHere);
  const identity = ['--service-node', 'check', '--service-cluster', 'check', '--service-zone', 'check'];
  const words = ['--mode', 'validate', '--config-yaml', here, '--log-level', 'error', ...identity];
  const { status, error, stderr } = spawnSync(binary, words, { encoding: 'utf8', timeout: maxEnvoyMs, maxBuffer: 16 << 20 });
  if (status === 0) return [];
  const rejected = 'envoy --mode validate: is an error; must be accepted: Envoy would not start';
  if (error !== undefined) return [`${rejected}: ${error.message}`];
  const refusal = refusalOf(stderr.replaceAll(filesHere, '/etc/envoy/'));
  return [`${place(refusedNode(document, refusal))}${rejected}: ${refusal.reason}`];
}

/** An older Envoy would reject a field that it does not know, which reads like a wrong edit. */
function versionFault(binary: string): string | undefined {
  const { stdout, error } = spawnSync(binary, ['--version'], { encoding: 'utf8', timeout: maxEnvoyMs });
  if (error !== undefined) return `Envoy did not run: ${error.message}; run npm run setup, or set KURA_ENVOY to an Envoy binary`;
  const [version, major, minor] = /(\d+)\.(\d+)\.\d+/.exec(stdout) ?? [];
  if (version === undefined || Number(major) > 1 || Number(minor) >= minEnvoyMinor) return undefined;
  return `${binary} is Envoy ${version}; this bootstrap needs Envoy 1.${minEnvoyMinor} or later`;
}

/** Containers have one of these files. The host of version 2 has none. */
function hasMemoryCgroup(): boolean {
  return existsSync('/sys/fs/cgroup/memory.current') || existsSync('/sys/fs/cgroup/memory');
}
