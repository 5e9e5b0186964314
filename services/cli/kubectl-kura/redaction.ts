/** Pure: removes what may be a secret from the text of a support bundle. */

const removed = '<removed>';
const rules: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  // A JSON Web Token, also where it is a part of a longer text.
  [/eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*/g, removed],
  [/\b(Bearer|Basic)(\s+|%20)[\w.~+/=-]{4,}/gi, `$1 ${removed}`],
  // A user name and a password in a URL.
  [/(\w:\/\/)[^\s/@:]+:[^\s/@]+@/g, `$1${removed}@`],
  // The value of an environment variable whose name promises a secret.
  [/(name: \S*(?:SECRET|TOKEN|PASSWORD|KEY|CREDENTIAL)\S*\n\s*value: )\S.*/g, `$1"${removed}"`],
  // A block scalar under the name of a secret: its lines are indented deeper.
  [/^( *)([\w.-]*(?:password|secret|token|private_key|keys)[\w.-]*: *)[|>][+-]?\d*\n(?:\1 +.*\n?)+/gim, `$1$2"${removed}"\n`],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, removed],
  // Signed terms and tickets: their reader could act for a caller until they expire.
  [/\b(sig|ticket|token)=[\w.~%+/=-]{8,}/gi, `$1=${removed}`],
  // A key of the credential, as `openssl rand -hex 32` writes it. Digests of images stay.
  [/(?<!sha256:)\b[0-9a-f]{64}\b/gi, removed],
];
/** Fields of JSON and YAML whose values are secrets, whatever they look like. */
const secretField =
  /(["']?\b(?:authorization|inline_bytes|inline_string|private_key|password|secret|keys|token|client-key-data)["']?\s*:\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,}\]{["']+)/gi;

export function withoutSecrets(text: string): string {
  const known = rules.reduce((rest, [pattern, replacement]) => rest.replace(pattern, replacement), text);
  return known.replace(secretField, (_, name: string) => `${name}"${removed}"`);
}
