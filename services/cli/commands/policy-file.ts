/** Reads policies and origins from files. A document with a problem is an error of the usage, with file, line and column. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type PolicyDocument, parsePolicy } from '../../authz/policy/document.ts';
import { compileOriginTerms, type OriginTerms } from '../../authz/policy/origin-terms.ts';
import { compilePolicy, type Policy } from '../../authz/policy/policy.ts';
import type { Problem } from '../../shared/strict-reader.ts';
import { orUsageError, UsageError } from '../usage-error.ts';
import { documentText } from './policy-document.ts';

/** Runs the tests of the policy too. */
export async function readPolicy(file: string, workingDirectory: string): Promise<Policy> {
  return compilePolicyOf((await readPolicyDocument(file, workingDirectory)).document, file);
}

export async function readPolicyDocument(
  file: string,
  workingDirectory: string,
): Promise<{ readonly text: string; readonly document: PolicyDocument }> {
  const text = documentText(await readText(file, workingDirectory), 'policy.yaml');
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') throw new UsageError(complaint(file, parsed.problems));
  return { text, document: parsed.value };
}

export function compilePolicyOf(document: PolicyDocument, file: string): Policy {
  const compiled = compilePolicy(document);
  if (compiled.kind === 'rejected') throw new UsageError(complaint(file, compiled.problems));
  return compiled.policy;
}

export async function readOrigins(file: string, workingDirectory: string): Promise<readonly OriginTerms[]> {
  const compiled = compileOriginTerms(documentText(await readText(file, workingDirectory), 'origins.yaml'));
  if (compiled.kind === 'rejected') throw new UsageError(complaint(file, compiled.problems));
  return compiled.value;
}

export async function readText(file: string, workingDirectory: string): Promise<string> {
  return await orUsageError(readFile(path.resolve(workingDirectory, file), 'utf8'));
}

function complaint(file: string, problems: readonly Problem[]): string {
  return problems.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`).join('\n');
}
