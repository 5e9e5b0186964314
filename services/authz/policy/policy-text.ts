/** Pure: from the text of a document to its policy, or to the reasons why it is rejected. */
import { parsePolicy } from './document.ts';
import { type CompiledPolicy, compilePolicy } from './policy.ts';
import type { Problem } from './strict-reader.ts';

export type CompiledText =
  | (Extract<CompiledPolicy, { kind: 'policy' }> & { readonly warnings: readonly Problem[] })
  | Extract<CompiledPolicy, { kind: 'rejected' }>;

/** Maximum number of problems of a document in its log line and its Event. */
const maxShownProblems = 5;

export function compileText(text: string): CompiledText {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') return parsed;
  const compiled = compilePolicy(parsed.policy);
  return compiled.kind === 'rejected' ? compiled : { ...compiled, warnings: parsed.warnings };
}

export function describeProblems(problems: readonly Problem[]): string[] {
  const shown = problems.slice(0, maxShownProblems).map(({ line, column, message }) => `line ${line}, column ${column}: ${message}`);
  return problems.length > maxShownProblems ? [...shown, `and ${problems.length - maxShownProblems} more`] : shown;
}
