/** `kura policy explain`: the rule that decides about one request, and the origin of its key. */
import { needsRule, type Verb } from '../../authz/policy/document.ts';
import { originOf } from '../../authz/policy/origin-terms.ts';
import type { Labels, Policy, Verdict } from '../../authz/policy/policy.ts';
import { canonicalKey, isKey } from '../../shared/key.ts';
import { UsageError } from '../usage-error.ts';
import { type CommandContext, exitStatuses } from './command-context.ts';
import { readOrigins, readPolicy } from './policy-file.ts';

export interface ExplainOptions {
  readonly as: readonly [namespace: string, serviceAccount: string];
  readonly verb: Verb;
  readonly key?: string;
  readonly prefix?: string;
  readonly origins?: string;
  readonly labels?: Labels;
  readonly json?: boolean;
}

type Subject = { readonly key: string } | { readonly prefix: string };

/** Of a key or a whole prefix. `fill` is the decision on FILL. */
interface ExplainedOrigin {
  readonly name: string;
  readonly fill: Pick<Verdict, 'allowed' | 'rule'>;
}

export async function explain(file: string, options: ExplainOptions, { workingDirectory, terminal }: CommandContext): Promise<number> {
  const subject = subjectOf(options);
  const policy = await readPolicy(file, workingDirectory);
  const decide = (verb: Verb): Verdict => decideAbout(policy, options, verb, subject);
  const verdict = decide(options.verb);
  const origins = options.origins === undefined ? undefined : await readOrigins(options.origins, workingDirectory);
  const origin = origins && originOf(origins, 'key' in subject ? subject.key : subject.prefix);
  const { allowed, rule } = decide('FILL');
  const explained = origin && { name: origin.fill.origin, fill: { allowed, rule } };
  if (options.json) terminal.print(JSON.stringify({ ...verdict, ...(origins === undefined ? {} : { origin: explained ?? null }) }));
  else {
    const isDryRun = policy.document.mode === 'dryRun' && !needsRule(options.verb) && 'key' in subject;
    for (const line of verdictLines(verdict, isDryRun)) terminal.print(line);
    if (origins !== undefined) terminal.print(originLine(explained));
  }
  return exitStatuses.success;
}

/** As authz receives it from Envoy. */
function subjectOf({ key, prefix, verb }: ExplainOptions): Subject {
  if ((key === undefined) === (prefix === undefined)) throw new UsageError('one of --key and --prefix is needed');
  if (verb === 'LIST' && prefix === undefined) throw new UsageError('LIST is a right over a prefix; use --prefix instead of --key');
  const canonical = canonicalKey(key ?? prefix ?? '');
  if (key !== undefined) {
    if (canonical !== undefined && isKey(canonical)) return { key: canonical };
    throw new UsageError(`${JSON.stringify(key)} is not a valid key: 1 to 1,024 bytes of printable ASCII without a . or .. segment`);
  }
  if (canonical === '' || (canonical?.endsWith('/') && isKey(canonical))) return { prefix: canonical };
  throw new UsageError(`${JSON.stringify(prefix)} is not a valid prefix: a key that ends with /, or an empty text`);
}

function decideAbout(policy: Policy, { as, labels = {} }: ExplainOptions, verb: Verb, subject: Subject): Verdict {
  const [namespace, serviceAccount] = as;
  const asked = { identity: { namespace, serviceAccount }, labels, verb };
  return 'key' in subject ? policy.decide({ ...asked, ...subject }) : policy.decideOver({ ...asked, ...subject });
}

function verdictLines({ allowed, rule, matched, limits }: Verdict, isDryRun: boolean): string[] {
  const others = matched.slice(1);
  const limitTexts = Object.entries(limits).map(([name, value]) => `${name} ${value}`);
  return [
    `${allowed ? 'allow' : 'deny'}, by ${deciderOf(rule)}`,
    ...(others.length > 0 ? [`also matching: ${others.join(', ')}`] : []),
    ...(isDryRun && !allowed ? ['mode dryRun: the request is allowed and counted as would-deny'] : []),
    `limits: ${limitTexts.join(', ')}`,
  ];
}

function originLine(origin: ExplainedOrigin | undefined): string {
  if (origin === undefined) return 'origin: none';
  const { name, fill } = origin;
  return `origin: ${name}; FILL: ${fill.allowed ? 'allow' : 'deny'}, by ${deciderOf(fill.rule)}`;
}

function deciderOf(rule: string): string {
  return rule === 'default' ? 'the default, because no rule matches' : `rule ${rule}`;
}
