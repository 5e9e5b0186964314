import test from 'ava';
import { compileText } from '../../../services/authz/policy/policy-text.ts';
import { refusalText } from '../../../services/authz/policy/refusal.ts';

const identity = { namespace: 'vision', serviceAccount: 'trainer' };
const head = 'apiVersion: kura/v1\nkind: AccessPolicy\nmode: enforce\ndefault: deny\n';

function refusal(rules: string, verb: 'GET' | 'PUT', key: string): string {
  const compiled = compileText(`${head}rules:\n${rules}`);
  if (compiled.kind === 'rejected') throw new Error(JSON.stringify(compiled.problems));
  const access = compiled.value.accessOf({ identity, labels: {} });
  return refusalText({ identity, verb, key }, access);
}

const own = '- { name: own, subjects: [{ namespaces: ["*"] }], verbs: [GET, PUT], keys: ["{namespace}/"] }\n';
const secret = '- { name: secret-project, subjects: [{ namespaces: [nlp] }], verbs: [GET, PUT], keys: [nlp/secret/, vision/for-nlp/] }\n';

test('a 403 names the key and the prefixes that the caller can use', (t) => {
  t.is(refusal(own, 'PUT', 'nlp/x'), 'the policy does not allow vision/trainer to PUT nlp/x: it allows PUT under vision/');
  const read = '- { name: read, subjects: [{ namespaces: [vision] }], verbs: [GET], keys: [shared/] }\n';
  t.is(refusal(read, 'PUT', 'shared/x'), 'the policy does not allow vision/trainer to PUT shared/x: it allows no PUT');
  t.regex(refusal(own + read, 'GET', 'nlp/x'), /: it allows GET under vision\/, shared\/$/);
});

test('a 403 names the prefix that a rule denies', (t) => {
  const freeze = '- { name: freeze, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [PUT], keys: [vision/old/] }\n';
  t.regex(refusal(own + freeze, 'PUT', 'vision/old/x'), / to PUT vision\/old\/x: it denies PUT under vision\/old\/$/);
  t.regex(refusal(own + freeze, 'PUT', 'nlp/x'), /: it allows PUT under vision\/$/);
  const all = '- { name: freeze, effect: deny, subjects: [{ namespaces: [vision] }], verbs: [PUT], keys: [""] }\n';
  t.regex(refusal(own + all, 'PUT', 'vision/x'), /: it denies PUT of every key$/);
});

test('a 403 reveals no rule of another namespace', (t) => {
  for (const key of ['nlp/secret/x', 'nlp/x', 'other']) t.notRegex(refusal(own + secret, 'GET', key).replace(key, ''), /secret|nlp/);
});

test('the sentence of a 403 is bounded', (t) => {
  const keys = Array.from({ length: 40 }, (_, index) => `shared/${String(index).padStart(900, 'x')}/`);
  const many = `- { name: many, subjects: [{ namespaces: [vision] }], verbs: [GET], keys: ${JSON.stringify(keys)} }\n`;
  const text = refusal(many, 'GET', 'k'.repeat(1024));
  t.true(text.length < 800, `${text.length}`);
  t.regex(text, /kkk\.\.\.: it allows GET under shared\/x+\.\.\., .* and 35 more$/);
});
