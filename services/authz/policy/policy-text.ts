/** Pure: from the text of a document to its policy, or to the reasons why it is rejected. */
import { parsePolicy } from './document.ts';
import { type CompiledPolicy, compilePolicy, type Policy } from './policy.ts';
import type { Problem } from './strict-reader.ts';
import { warningsOf } from './warnings.ts';

export type CompiledText =
  | { readonly kind: 'policy'; readonly policy: Policy; readonly warnings: readonly Problem[] }
  | Extract<CompiledPolicy, { kind: 'rejected' }>;

/** Maximum number of problems of a document in its log line and its Event. */
const maxShownProblems = 5;

export function compileText(text: string): CompiledText {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') return parsed;
  const compiled = compilePolicy(parsed.policy);
  if (compiled.kind === 'rejected') return compiled;
  const warnings = warningsOf(parsed.policy, compiled.untested).map(({ path, message }) => parsed.problemAt(path, message));
  return { kind: 'policy', policy: compiled.policy, warnings };
}

export function describeProblems(problems: readonly Problem[]): string[] {
  const shown = problems.slice(0, maxShownProblems).map(({ line, column, message }) => `line ${line}, column ${column}: ${message}`);
  return problems.length > maxShownProblems ? [...shown, `and ${problems.length - maxShownProblems} more`] : shown;
}
