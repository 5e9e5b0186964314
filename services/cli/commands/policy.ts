/** `kura policy`: checks a policy before it is applied, with the code that authz uses. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';
import { type Command, InvalidArgumentError } from 'commander';
import { type PolicyDocument, parsePolicy, type Verb, verbs } from '../../authz/policy/document.ts';
import { compilePolicy, decideTest, type Labels, type Policy, type Question, type Verdict } from '../../authz/policy/policy.ts';
import { compileText } from '../../authz/policy/policy-text.ts';
import { canonicalKey, isKey } from '../../shared/key.ts';
import type { Problem } from '../../shared/strict-reader.ts';
import { orUsageError, UsageError } from '../usage-error.ts';
import { type CommandContext, exitStatuses, type RunAction } from './command-context.ts';
import { policyText } from './policy-document.ts';
import { readDecisions } from './recorded-decisions.ts';

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

export function addPolicyCommands(program: Command, context: CommandContext, run: RunAction): void {
  const policy = program.command('policy').description('test, explain and compare policies before they are applied');
  policy
    .command('test')
    .description('run the tests that a policy contains')
    .argument('<file>', 'AccessPolicy document, or the ConfigMap kura-policy')
    .option('--json', 'print the results as JSON')
    .addHelpText(
      'after',
      '\nExample: kura policy test k8s/base/policy.yaml\nExit status: 0 success, 1 a test failed, 2 the document is invalid. A warning does not change it.',
    )
    .action((file: string, options: { json?: boolean }) => run(() => test(file, options, context)));
  policy
    .command('explain')
    .description('show which rule decides a request, and which other rules match')
    .argument('<file>', 'AccessPolicy document, or the ConfigMap kura-policy')
    .requiredOption('--as <namespace/serviceaccount>', 'identity of the client', identity)
    .requiredOption('--verb <verb>', verbs.join(', '), verb)
    .requiredOption('--key <key>', 'key of the object')
    .option('--labels <key=value...>', 'labels of the namespace', labelsOption)
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nExample: kura policy explain policy.yaml --as vision/trainer --verb PUT --key _shared/imagenet/x --labels team=vision',
    )
    .action((file: string, options: ExplainOptions) => run(() => explain(file, options, context)));
  policy
    .command('diff')
    .description('list the recorded requests that two policies decide differently')
    .argument('<a>', 'first AccessPolicy document')
    .argument('<b>', 'second AccessPolicy document')
    .requiredOption(
      '--decisions <file>',
      'audit log of authz, or JSON lines {"who":"vision/trainer","verb":"GET","key":"vision/x"}; - reads standard input',
    )
    .option('--labels <namespace:key=value...>', 'labels of namespaces', namespaceLabelsOption)
    .option('--json', 'print each difference as JSON')
    .addHelpText(
      'after',
      `
Example: kubectl -n kura-system logs -l app.kubernetes.io/name=kura-envoy -c authz |
  kura policy diff now.yaml next.yaml --decisions -
Exit status: 0 no differences, 1 differences.`,
    )
    .action((a: string, b: string, options: DiffOptions) => run(() => diff([a, b], options, context)));
}

async function test(
  file: string,
  { json }: { json?: boolean },
  { workingDirectory, terminal, errorTerminal }: CommandContext,
): Promise<number> {
  const text = await readPolicy(file, workingDirectory);
  const document = parse(text, file);
  const policy = compile({ ...document, tests: [] }, file);
  const results = document.tests.map((each) => {
    const { namespace, serviceAccount, verb: method, key, expect, line } = each;
    const { allowed, rule } = decideTest(policy, each);
    const found = allowed ? 'allow' : 'deny';
    return { passed: found === expect, line, as: `${namespace}/${serviceAccount}`, verb: method, key, expect, found, rule };
  });
  for (const { passed, line, as, verb: method, key, expect, found, rule } of json ? [] : results) {
    terminal.print(
      `${passed ? 'ok    ' : 'FAILED'} line ${line}: ${as} ${method} ${key}: ${found} by ${rule}${passed ? '' : `, expected ${expect}`}`,
    );
  }
  const compiled = compileText(text);
  const warnings = compiled.kind === 'document' ? compiled.warnings : [];
  for (const { line, column, message } of warnings) errorTerminal.print(`warning: ${file}:${line}:${column}: ${message}`);
  const failed = results.filter(({ passed }) => !passed).length;
  if (json) terminal.print(JSON.stringify(results));
  else
    terminal.print(`${results.length - failed} of ${results.length} tests passed; ${document.rules.length} rules, mode ${document.mode}`);
  return failed === 0 ? exitStatuses.success : exitStatuses.failure;
}

async function explain(file: string, options: ExplainOptions, { workingDirectory, terminal }: CommandContext): Promise<number> {
  const { as, verb: method, labels = {}, json } = options;
  // As authz receives it from Envoy.
  const key = canonicalKey(options.key);
  if (key === undefined || !isKey(key))
    throw new UsageError(
      `${JSON.stringify(options.key)} is not a valid key: 1 to 1,024 bytes of printable ASCII without a . or .. segment`,
    );
  const policy = compile(parse(await readPolicy(file, workingDirectory), file), file);
  const [namespace, serviceAccount] = as;
  const verdict = policy.decide({ identity: { namespace, serviceAccount }, labels, verb: method, key });
  if (json) {
    terminal.print(JSON.stringify(verdict));
    return exitStatuses.success;
  }
  const { allowed, rule, matched, limits } = verdict;
  const others = matched.slice(1);
  terminal.print(`${allowed ? 'allow' : 'deny'}, by ${rule === 'default' ? 'the default, because no rule matches' : `rule ${rule}`}`);
  if (others.length > 0) terminal.print(`also matching: ${others.join(', ')}`);
  if (policy.document.mode === 'dryRun' && !allowed) terminal.print('mode dryRun: the request is allowed and counted as would-deny');
  terminal.print(
    `limits: ${Object.entries(limits)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}`,
  );
  return exitStatuses.success;
}

async function diff(
  files: readonly [string, string],
  options: DiffOptions,
  { workingDirectory, stdin, terminal, errorTerminal }: CommandContext,
): Promise<number> {
  const [a, b] = (await Promise.all(files.map(async (file) => compile(parse(await readPolicy(file, workingDirectory), file), file)))) as [
    Policy,
    Policy,
  ];
  const { decisions, unread } = readDecisions(await readDecisionsText(options.decisions, workingDirectory, stdin));
  if (unread > 0) errorTerminal.print(`skipped ${unread} lines that are not recorded decisions`);
  let differences = 0;
  for (const { namespace, serviceAccount, verb: method, key } of decisions) {
    const question: Question = { identity: { namespace, serviceAccount }, labels: options.labels?.get(namespace) ?? {}, verb: method, key };
    const [before, after] = [a.decide(question), b.decide(question)];
    if (before.allowed === after.allowed) continue;
    differences += 1;
    const who = `${namespace}/${serviceAccount}`;
    if (options.json) terminal.print(JSON.stringify({ who, verb: method, key, before: brief(before), after: brief(after) }));
    else terminal.print(`${who} ${method} ${key}: ${describe(before)} → ${describe(after)}`);
  }
  if (!options.json) terminal.print(`${differences} of ${decisions.length} decisions differ`);
  return differences === 0 ? exitStatuses.success : exitStatuses.failure;
}

function brief({ allowed, rule }: Verdict): { decision: 'allow' | 'deny'; rule: string } {
  return { decision: allowed ? 'allow' : 'deny', rule };
}

function describe(verdict: Verdict): string {
  const { decision, rule } = brief(verdict);
  return `${decision} (${rule})`;
}

function parse(text: string, file: string): PolicyDocument {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') throw new UsageError(complaint(file, parsed.problems));
  return parsed.value;
}

function compile(document: PolicyDocument, file: string): Policy {
  const compiled = compilePolicy(document);
  if (compiled.kind === 'rejected') throw new UsageError(complaint(file, compiled.problems));
  return compiled.policy;
}

function complaint(file: string, problems: readonly Problem[]): string {
  return problems.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`).join('\n');
}

async function readDecisionsText(file: string, workingDirectory: string, stdin: Readable): Promise<string> {
  return file === '-' ? await readAll(stdin) : await readText(file, workingDirectory);
}

async function readPolicy(file: string, workingDirectory: string): Promise<string> {
  return policyText(await readText(file, workingDirectory));
}

async function readText(file: string, workingDirectory: string): Promise<string> {
  return await orUsageError(readFile(path.resolve(workingDirectory, file), 'utf8'));
}

function identity(value: string): readonly [string, string] {
  const [namespace, serviceAccount, ...rest] = value.split('/');
  if (!namespace || !serviceAccount || rest.length > 0) throw new InvalidArgumentError('It must have the form namespace/serviceaccount.');
  return [namespace, serviceAccount];
}

function verb(value: string): Verb {
  const known = verbs.find((each) => each === value.toUpperCase());
  if (known === undefined) throw new InvalidArgumentError(`It must be one of ${verbs.join(', ')}.`);
  return known;
}

function labelsOption(value: string, labels: Labels = {}): Labels {
  const [name, ...rest] = value.split('=');
  if (!name || rest.length === 0) throw new InvalidArgumentError('It must have the form key=value.');
  return { ...labels, [name]: rest.join('=') };
}

function namespaceLabelsOption(value: string, known: ReadonlyMap<string, Labels> = new Map()): ReadonlyMap<string, Labels> {
  const at = value.indexOf(':');
  if (at < 1) throw new InvalidArgumentError('It must have the form namespace:key=value.');
  const namespace = value.slice(0, at);
  return new Map([...known, [namespace, labelsOption(value.slice(at + 1), known.get(namespace))]]);
}
