/** `kura policy`: a policy before it is applied, by the same code that decides in authz. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';
import { type Command, InvalidArgumentError } from 'commander';
import { type PolicyDocument, parsePolicy, type Verb, verbs } from '../authz/policy/document.ts';
import { compilePolicy, type Labels, type Policy, type Question, type Verdict } from '../authz/policy/policy.ts';
import type { Problem } from '../authz/policy/strict-reader.ts';
import { canonicalKey, isKey } from '../shared/key.ts';
import { exits, type Run, type Surroundings } from './command.ts';
import { readDecisions } from './recorded-decisions.ts';
import { orUsageError, UsageError } from './usage-error.ts';

interface ExplainOptions {
  readonly as: readonly [namespace: string, serviceAccount: string];
  readonly verb: Verb;
  readonly key: string;
  readonly labels?: Labels;
  readonly json?: boolean;
}

interface DiffOptions {
  readonly decisions: string;
  readonly labels?: ReadonlyMap<string, Labels>;
  readonly json?: boolean;
}

export function addPolicyCommands(program: Command, surroundings: Surroundings, act: (run: () => Run) => Promise<void>): void {
  const policy = program.command('policy').description('test, explain and compare policies before they are applied');
  policy
    .command('test')
    .description('run a document’s own tests')
    .argument('<file>', 'an AccessPolicy')
    .option('--json', 'print the results as JSON')
    .addHelpText(
      'after',
      '\nExample: kura policy test k8s/base/policy.yaml\nEnds with 1 when a test fails, 2 when the document is not good.',
    )
    .action((file: string, options: { json?: boolean }) => act(() => test(file, options, surroundings)));
  policy
    .command('explain')
    .description('tell which rule decides about a request, and which others match')
    .argument('<file>')
    .requiredOption('--as <namespace/serviceaccount>', 'who asks', identity)
    .requiredOption('--verb <verb>', verbs.join(', '), verb)
    .requiredOption('--key <key>', 'of the object')
    .option('--labels <key=value...>', 'labels of the namespace', labelsOption)
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nExample: kura policy explain policy.yaml --as vision/trainer --verb PUT --key datasets/imagenet/x --labels team=vision',
    )
    .action((file: string, options: ExplainOptions) => act(() => explain(file, options, surroundings)));
  policy
    .command('diff')
    .description('tell which recorded decisions another policy would decide otherwise')
    .argument('<a>')
    .argument('<b>')
    .requiredOption(
      '--decisions <file>',
      'authz’s audit log as it is, or JSON lines {"who":"vision/trainer","verb":"GET","key":"vision/x"}; - = standard input',
    )
    .option('--labels <namespace:key=value...>', 'labels of namespaces', namespaceLabelsOption)
    .option('--json', 'print each difference as JSON')
    .addHelpText(
      'after',
      '\nExample: kubectl -n kura-system logs -l app.kubernetes.io/name=kura-envoy -c authz | kura policy diff now.yaml next.yaml --decisions -\nEnds with 1 when there are differences.',
    )
    .action((a: string, b: string, options: DiffOptions) => act(() => diff([a, b], options, surroundings)));
}

async function test(file: string, { json }: { json?: boolean }, { here, terminal }: Surroundings): Run {
  const document = await readPolicy(path.resolve(here, file));
  const policy = compile({ ...document, tests: [] }, file);
  const results = document.tests.map(({ namespace, serviceAccount, labels, verb: asked, key, expect, line }) => {
    const { allowed, rule } = policy.decide({ identity: { namespace, serviceAccount }, labels, verb: asked, key });
    const found = allowed ? 'allow' : 'deny';
    return { passed: found === expect, line, as: `${namespace}/${serviceAccount}`, verb: asked, key, expect, found, rule };
  });
  for (const { passed, line, as, verb: asked, key, expect, found, rule } of json ? [] : results) {
    terminal.say(
      `${passed ? 'ok    ' : 'FAILED'} line ${line}: ${as} ${asked} ${key}: ${found} by ${rule}${passed ? '' : `, expected ${expect}`}`,
    );
  }
  const failed = results.filter(({ passed }) => !passed).length;
  if (json) terminal.say(JSON.stringify(results));
  else terminal.say(`${results.length - failed} of ${results.length} tests passed; ${document.rules.length} rules, mode ${document.mode}`);
  return failed === 0 ? exits.good : exits.bad;
}

async function explain(file: string, options: ExplainOptions, { here, terminal }: Surroundings): Run {
  const { as, verb: asked, labels = {}, json } = options;
  // As authz gets it from Envoy.
  const key = canonicalKey(options.key);
  if (key === undefined || !isKey(key))
    throw new UsageError(`${JSON.stringify(options.key)} cannot be a key: 1 to 1,024 bytes of printable ASCII without a . or .. segment`);
  const policy = compile(await readPolicy(path.resolve(here, file)), file);
  const [namespace, serviceAccount] = as;
  const verdict = policy.decide({ identity: { namespace, serviceAccount }, labels, verb: asked, key });
  if (json) {
    terminal.say(JSON.stringify(verdict));
    return exits.good;
  }
  const { allowed, rule, matched, limits } = verdict;
  const others = matched.slice(1);
  terminal.say(`${allowed ? 'allow' : 'deny'}, by ${rule === 'default' ? 'the default, since no rule matches' : `rule ${rule}`}`);
  if (others.length > 0) terminal.say(`also matching: ${others.join(', ')}`);
  if (policy.document.mode === 'dryRun' && !allowed) terminal.say('mode dryRun: it is let in, and counted as would-deny');
  terminal.say(
    `limits: ${Object.entries(limits)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
  );
  return exits.good;
}

async function diff(files: readonly [string, string], options: DiffOptions, { here, stdin, terminal, errors }: Surroundings): Run {
  const [a, b] = (await Promise.all(files.map(async (file) => compile(await readPolicy(path.resolve(here, file)), file)))) as [
    Policy,
    Policy,
  ];
  const { decisions, unread } = readDecisions(await readText(options.decisions, here, stdin));
  if (unread > 0) errors.say(`${unread} lines are no recorded decisions and are left out`);
  let differences = 0;
  for (const { namespace, serviceAccount, verb: asked, key } of decisions) {
    const question: Question = { identity: { namespace, serviceAccount }, labels: options.labels?.get(namespace) ?? {}, verb: asked, key };
    const [before, after] = [a.decide(question), b.decide(question)];
    if (before.allowed === after.allowed) continue;
    differences += 1;
    const who = `${namespace}/${serviceAccount}`;
    if (options.json) terminal.say(JSON.stringify({ who, verb: asked, key, before: brief(before), after: brief(after) }));
    else terminal.say(`${who} ${asked} ${key}: ${describe(before)} → ${describe(after)}`);
  }
  if (!options.json) terminal.say(`${differences} of ${decisions.length} decisions differ`);
  return differences === 0 ? exits.good : exits.bad;
}

function brief({ allowed, rule }: Verdict): { decision: 'allow' | 'deny'; rule: string } {
  return { decision: allowed ? 'allow' : 'deny', rule };
}

function describe(verdict: Verdict): string {
  const { decision, rule } = brief(verdict);
  return `${decision} (${rule})`;
}

async function readPolicy(file: string): Promise<PolicyDocument> {
  const parsed = parsePolicy(await orUsageError(readFile(file, 'utf8')));
  if (parsed.kind === 'rejected') throw new UsageError(complaint(file, parsed.problems));
  return parsed.policy;
}

function compile(document: PolicyDocument, file: string): Policy {
  const compiled = compilePolicy(document);
  if (compiled.kind === 'rejected') throw new UsageError(complaint(file, compiled.problems));
  return compiled.policy;
}

function complaint(file: string, problems: readonly Problem[]): string {
  return problems.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`).join('\n');
}

async function readText(file: string, here: string, stdin: Readable): Promise<string> {
  return file === '-' ? await readAll(stdin) : await orUsageError(readFile(path.resolve(here, file), 'utf8'));
}

function identity(value: string): readonly [string, string] {
  const [namespace, serviceAccount, ...rest] = value.split('/');
  if (!namespace || !serviceAccount || rest.length > 0) throw new InvalidArgumentError('It is not of the form namespace/serviceaccount.');
  return [namespace, serviceAccount];
}

function verb(value: string): Verb {
  const known = verbs.find((each) => each === value.toUpperCase());
  if (known === undefined) throw new InvalidArgumentError(`It is none of ${verbs.join(', ')}.`);
  return known;
}

function labelsOption(value: string, labels: Labels = {}): Labels {
  const [name, ...rest] = value.split('=');
  if (!name || rest.length === 0) throw new InvalidArgumentError('It is not of the form key=value.');
  return { ...labels, [name]: rest.join('=') };
}

function namespaceLabelsOption(value: string, known: ReadonlyMap<string, Labels> = new Map()): ReadonlyMap<string, Labels> {
  const at = value.indexOf(':');
  if (at < 1) throw new InvalidArgumentError('It is not of the form namespace:key=value.');
  const namespace = value.slice(0, at);
  return new Map([...known, [namespace, labelsOption(value.slice(at + 1), known.get(namespace))]]);
}
