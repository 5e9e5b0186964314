/** The audit log: each allowed or refused request with its identity and the rule that decided. It never contains a part of a token. */
import { parsePrefixTarget } from '../shared/key.ts';
import { LineLimit } from '../shared/line-limit.ts';
import type { Logger } from '../shared/log.ts';
import { type Decide, type Decision, outcomeOf, type Question } from './decision.ts';

interface AuditOptions {
  readonly log: Logger;
  /** Every n-th allow is logged; 0 = no allow. */
  readonly allowSample: number;
  readonly now: () => number;
}

/** A flood of forged tokens must not fill a disk. In each second, denials above this number are counted but not logged. */
const maxDenialsPerSecond = 200;
/** The same for allows of sampled traces, which are all logged. They have their own limit, so that they never hide a denial. */
const maxTracedAllowsPerSecond = 200;
/** The same for the jobs and removals that are always logged. */
const maxPrefixAllowsPerSecond = 200;
/** A client may put a token into the URL, so everything that looks like a part of a JWT is removed. */
const tokenLike = /eyJ[\w-]+(?:\.[\w-]*)*/g;
const maxTargetCharacters = 1_100;

type Audit = (question: Question, decision: Decision) => void;

/** Returns the same decisions and calls `audit` for each check. */
export function audited(decide: Decide, audit: Audit): Decide {
  return async (question) => {
    const decision = await decide(question);
    audit(question, decision);
    return decision;
  };
}

/** Returns the function that writes the audit log. Call it once for each check. */
export function createAudit({ log, allowSample, now }: AuditOptions): Audit {
  let allows = 0;
  const denials = new LineLimit(maxDenialsPerSecond);
  const tracedAllows = new LineLimit(maxTracedAllowsPerSecond);
  const prefixAllows = new LineLimit(maxPrefixAllowsPerSecond);
  return (question, decision) => {
    const { method, target, trace } = question;
    const isAllow = decision.kind === 'folder' || (decision.kind === 'allow' && !decision.wouldDeny && decision.difference === undefined);
    if (isAllow && 'isLoggedAlways' in decision && decision.isLoggedAlways) {
      const { isAdmitted, unwritten } = prefixAllows.count(now());
      if (unwritten > 0) log.warn({ unwritten }, 'some jobs and removals were not logged: the limit for one second was exceeded');
      if (!isAdmitted) return;
    } else if (isAllow) {
      const isChosen = allowSample !== 0 && allows++ % allowSample === 0;
      if (!isChosen && !(trace?.isSampled && tracedAllows.count(now()).isAdmitted)) return;
    } else {
      const { isAdmitted, unwritten } = denials.count(now());
      if (unwritten > 0) log.warn({ unwritten }, 'some denials were not logged: the limit for one second was exceeded');
      if (!isAdmitted) return;
    }
    log.info(
      {
        audit: {
          decision: outcomeOf(decision),
          verb: method.slice(0, 16),
          ...subjectOf(target),
          ...detailsOf(decision),
          ...idsOf(question),
        },
      },
      'check',
    );
  };
}

function detailsOf(decision: Decision): object {
  const who = 'identity' in decision ? { who: `${decision.identity.namespace}/${decision.identity.serviceAccount}` } : {};
  const rule = 'rule' in decision ? { rule: decision.rule } : {};
  const cached = 'cached' in decision ? { cached: decision.cached } : {};
  const origin = 'origin' in decision && decision.origin !== undefined ? { origin: decision.origin } : {};
  const difference = 'difference' in decision ? decision.difference : {};
  const reason = 'reason' in decision ? { reason: decision.reason } : {};
  return { ...who, ...rule, ...cached, ...origin, ...difference, ...reason };
}

function idsOf({ requestId, trace }: Question): object {
  return { ...(requestId === undefined ? {} : { requestId }), ...(trace === undefined ? {} : { traceId: trace.traceId }) };
}

/** A prefix has another field than a key, so that no reader takes one for the other. */
function subjectOf(target: string): object {
  const parsed = parsePrefixTarget(target);
  if (parsed.kind === 'prefix') return { service: parsed.service, prefix: readable(parsed.prefix) };
  return { key: readable(target).replace(/^\/(?:objects|direct|through)\//, '') };
}

function readable(target: string): string {
  const path = target.split('?', 1)[0] as string;
  return path.slice(0, maxTargetCharacters).replace(tokenLike, '<token>');
}
