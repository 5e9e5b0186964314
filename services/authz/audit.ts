/** The audit log: each identity that was allowed or refused, and the rule that decided. It never holds a part of a token. */
import type { Logger } from '../shared/log.ts';
import type { Decide, Decision, Question } from './decision.ts';

interface AuditOptions {
  readonly log: Logger;
  /** One of so many allows is written; 0 = none. */
  readonly allowSample: number;
  readonly now: () => number;
}

/** A flood of forged tokens must not fill a disk: beyond this, a second's denials are counted and not written. */
const maxDenialsPerSecond = 200;
/** Somebody may put a token into the URL: whatever looks like a JWT's part is taken out. */
const tokenLike = /eyJ[\w-]+(?:\.[\w-]*)*/g;
const maxTargetCharacters = 1_100;

type Audit = (question: Question, decision: Decision) => void;

/** The same decision, with a call of `audit` for each check. */
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
  let second = 0;
  let denials = 0;
  return ({ method, target }, decision) => {
    const isAllow = decision.kind === 'folder' || (decision.kind === 'allow' && !decision.wouldDeny && decision.difference === undefined);
    if (isAllow && (allowSample === 0 || allows++ % allowSample !== 0)) return;
    if (!isAllow) {
      const current = Math.floor(now() / 1000);
      if (current !== second) {
        if (denials > maxDenialsPerSecond)
          log.warn({ unwritten: denials - maxDenialsPerSecond }, 'denials beyond the limit a second are not written');
        second = current;
        denials = 0;
      }
      if (++denials > maxDenialsPerSecond) return;
    }
    log.info(
      {
        audit: {
          decision: decision.kind === 'allow' && decision.wouldDeny ? 'would-deny' : decision.kind,
          verb: method.slice(0, 16),
          key: readable(target),
          ...detailsOf(decision),
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
  const difference = 'difference' in decision ? decision.difference : {};
  const reason = 'reason' in decision ? { reason: decision.reason } : {};
  return { ...who, ...rule, ...cached, ...difference, ...reason };
}

function readable(target: string): string {
  const path = target.split('?', 1)[0] as string;
  return path
    .slice(0, maxTargetCharacters)
    .replace(/^\/objects\//, '')
    .replace(tokenLike, '<token>');
}
