/** Pure: reads the requests that authz's audit log or a list of JSON lines records. */
import { type Verb, verbs } from '../../authz/policy/document.ts';
import { isKey } from '../../shared/key.ts';

interface RecordedDecision {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly verb: Verb;
  readonly key: string;
}

/**
 * Counts and skips lines that are not decisions or have no identity. Removes the prefix that the console of a local system puts in
 * front of each line.
 */
export function readDecisions(text: string): { readonly decisions: readonly RecordedDecision[]; readonly unread: number } {
  const decisions: RecordedDecision[] = [];
  let unread = 0;
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const decision = readLine(line);
    if (decision === undefined) unread += 1;
    else decisions.push(decision);
  }
  return { decisions, unread };
}

function readLine(line: string): RecordedDecision | undefined {
  let entry: unknown;
  try {
    entry = JSON.parse(line.slice(line.indexOf('{')));
  } catch {
    return undefined;
  }
  const { audit = entry } = entry as { audit?: unknown };
  const { who, verb, key } = (audit ?? {}) as { who?: unknown; verb?: unknown; key?: unknown };
  if (typeof who !== 'string' || typeof key !== 'string' || !isKey(key)) return undefined;
  const [namespace, serviceAccount, ...rest] = who.split('/');
  const known = verbs.find((each) => each === verb);
  if (!namespace || !serviceAccount || rest.length > 0 || known === undefined) return undefined;
  return { namespace, serviceAccount, verb: known, key };
}
