/**
 * `npm run check:envoy [-- FILE]`: checks FILE, or envoy/bootstrap.yaml alone and with the fragments of each combination of components,
 * against the rules in bootstrap-rules.ts and with the real Envoy (`--mode validate`). Prints each breach in one line, with line and column.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Document, LineCounter, type Node, parseDocument } from 'yaml';
import { removeContainerLimit } from '../../services/local/bootstrap.ts';
import { envoyBinary } from '../../services/local/envoy-binary.ts';
import { bootstrapWith, componentsWithFragment } from '../envoy-bootstrap.ts';
import { bootstrapRules } from './bootstrap-rules.ts';
import { nodeAt, refusalOf, refusedNode } from './envoy-refusal.ts';
import { breaches, steps } from './expectation.ts';

/** Envoy 1.38 does not know `max_connection_duration_jitter`. */
const minEnvoyMinor = 39;
const maxEnvoyMs = 60_000;

const root = path.resolve(import.meta.dirname, '..', '..');
const [file] = process.argv.slice(2);
for (const { name, text, rules } of file === undefined ? withFragments() : given(file)) {
  const found = text === undefined ? ['the file does not exist'] : check(text, rules);
  for (const breach of found) console.error(`${name}:${breach.startsWith(':') ? breach.slice(1) : ` ${breach}`}`);
  if (found.length > 0) process.exitCode = 1;
}

interface Subject {
  readonly name: string;
  /** Undefined for a file that does not exist. */
  readonly text: string | undefined;
  readonly rules: typeof bootstrapRules;
}

/** npm runs scripts in the root of the clone, and the user names a file from another folder. */
function given(name: string): Subject[] {
  const folder = process.env.npm_lifecycle_event === 'check:envoy' ? process.env.INIT_CWD : undefined;
  const found = path.resolve(folder ?? '.', name);
  return [{ name, text: existsSync(found) ? readFileSync(found, 'utf8') : undefined, rules: bootstrapRules }];
}

function withFragments(): Subject[] {
  const combinations = componentsWithFragment.reduce<string[][]>(
    (found, name) => found.concat(found.map((each) => each.concat(name))),
    [[]],
  );
  return combinations.map((names) => ({
    name: ['envoy/bootstrap.yaml', ...names].join(' + '),
    text: bootstrapWith(names),
    rules: names.includes('authz-deployment') ? withoutAuthzSocket() : bootstrapRules,
  }));
}

function withoutAuthzSocket(): typeof bootstrapRules {
  return bootstrapRules.filter(([at]) => !(at.includes('clusters[authz]') && at.endsWith('pipe.path')));
}

/** A breach with a place begins with `:LINE:COLUMN: `. */
function check(text: string, expected: typeof bootstrapRules): string[] {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false });
  const at = (offset: number | undefined): string => {
    if (offset === undefined) return '';
    const { line, col } = counter.linePos(offset);
    return `:${line}:${col}: `;
  };
  const place = (node: Node | undefined): string => at(node?.range?.[0]);
  if (document.errors.length > 0) return document.errors.map(({ message, pos }) => `${at(pos[0])}is not YAML: ${message}`);
  const rules = breaches(document.toJS(), expected).map((breach) => {
    const rule = expected.find(([name]) => breach.startsWith(`${name}: `));
    return `${place(nodeAt(document, document.contents, steps(rule?.[0] ?? '')))}${breach}`;
  });
  return [...rules, ...refusals(document, place)];
}

function refusals(document: Document, place: (node: Node | undefined) => string): string[] {
  const binary = envoyBinary({ root, override: process.env.KURA_ENVOY });
  const old = versionFault(binary);
  if (old !== undefined) return [old];
  if (!hasMemoryCgroup()) removeContainerLimit(document);
  const here = document.toString().replaceAll(/\/etc\/envoy\/([\w.-]+)/g, (_, name: string) => sourceOf(name));
  const identity = ['--service-node', 'check', '--service-cluster', 'check', '--service-zone', 'check'];
  const words = ['--mode', 'validate', '--config-yaml', here, '--log-level', 'warning', ...identity];
  const { status, error, stderr } = spawnSync(binary, words, { encoding: 'utf8', timeout: maxEnvoyMs, maxBuffer: 16 << 20 });
  if (status === 0) return deprecations(stderr);
  const rejected = 'envoy --mode validate: is an error; must be accepted: Envoy would not start';
  if (error !== undefined) return [`${rejected}: ${error.message}`];
  const refusal = refusalOf(inCluster(stderr));
  return [`${place(refusedNode(document, refusal))}${rejected}: ${refusal.reason}`];
}

/** Envoy warns about a field that a later version will not know. */
function deprecations(stderr: string): string[] {
  const fields = new Set([...stderr.matchAll(/Using deprecated option '([^']+)'/g)].map(([, field]) => field));
  return [...fields].map((field) => `envoy --mode validate: ${field} is deprecated; must not be used: a later Envoy would not start`);
}

/** An older Envoy would reject a field that it does not know, which reads like a wrong edit. */
function versionFault(binary: string): string | undefined {
  const { stdout, error } = spawnSync(binary, ['--version'], { encoding: 'utf8', timeout: maxEnvoyMs });
  if (error !== undefined) return `Envoy did not run: ${error.message}; run npm run setup, or set KURA_ENVOY to an Envoy binary`;
  const [version, major, minor] = /(\d+)\.(\d+)\.\d+/.exec(stdout) ?? [];
  if (version === undefined || Number(major) > 1 || Number(minor) >= minEnvoyMinor) return undefined;
  return `${binary} is Envoy ${version}; this bootstrap needs Envoy 1.${minEnvoyMinor} or later`;
}

/** The file of the ConfigMap kura-envoy in this repository. */
function sourceOf(name: string): string {
  const components = path.join(root, 'k8s', 'components');
  const folders = [path.join(root, 'envoy'), ...readdirSync(components).map((component) => path.join(components, component))];
  return folders.map((folder) => path.join(folder, name)).find((candidate) => existsSync(candidate)) ?? `/etc/envoy/${name}`;
}

/** Names the files of this repository as the bootstrap does. */
function inCluster(text: string): string {
  return text.replaceAll(`${root}/`, '').replaceAll(/\b(?:envoy|k8s\/components\/[^/\s]+)\/(?=[\w.-]+\.(?:lua|yaml))/g, '/etc/envoy/');
}

/** Containers have one of these files. The host of version 2 has none. */
function hasMemoryCgroup(): boolean {
  return existsSync('/sys/fs/cgroup/memory.current') || existsSync('/sys/fs/cgroup/memory');
}
