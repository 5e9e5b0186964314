/** Spellings of keys for the two implementations of one rule: envoy/grants.lua and services/shared/key.ts. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';

interface KeyVector {
  readonly input: string;
  /** The canonical spelling; null if it is rejected. */
  readonly output: string | null;
  /** The result in Envoy, if its normalization resolves a dot segment first. */
  readonly throughEnvoy?: string;
}

const file = path.resolve(import.meta.dirname, '..', 'vectors', 'keys.json');
export const keyVectors: readonly KeyVector[] = JSON.parse(readFileSync(file, 'utf8'));

/** Keys with many escapes and malformed escapes. */
export const nearlyEscapes = fc.string({
  unit: fc.constantFrom('%', '%', '%2', '%2e', '%2E', '%41', '%c3', '%28', '2', '5', 'e', 'F', '0', 'a', 'g', '.', '/', '?', '+', '('),
  minLength: 1,
  maxLength: 12,
});
