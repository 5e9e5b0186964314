/** Pure: from the text of a document to its policy, or to the reasons why it is rejected. */
import type { Compiled } from '../../shared/strict-reader.ts';
import { parsePolicy } from './document.ts';
import { compilePolicy, type Policy } from './policy.ts';
import { warningsOf } from './warnings.ts';

export function compileText(text: string): Compiled<Policy> {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') return parsed;
  const compiled = compilePolicy(parsed.value);
  if (compiled.kind === 'rejected') return compiled;
  const warnings = warningsOf(parsed.value, compiled.untested).map(({ path, message }) => parsed.problemAt(path, message));
  return { kind: 'document', value: compiled.policy, warnings };
}
