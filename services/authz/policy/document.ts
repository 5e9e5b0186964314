/** Pure: the text of an AccessPolicy, read strictly: what is not exactly of its form is a problem with line and column, and nothing is guessed. */
import { isMap, type Node } from 'yaml';
import { canonicalKey, hasDotSegment, maxKeyBytes } from '../../shared/key.ts';
import { maxSignedNumber } from '../../shared/signed-terms.ts';
import { readStrictly, type StrictReader } from '../../shared/strict-reader.ts';

/** The verbs that are methods of an object. */
export const methods = ['GET', 'HEAD', 'PUT', 'DELETE'] as const;
export type Method = (typeof methods)[number];
/** FILL: a miss is fetched from the origin of the key. LIST: sizes and keys under a prefix. */
export const verbs = [...methods, 'FILL', 'LIST'] as const;
export type Verb = (typeof verbs)[number];

export function byVerb<T>(of: (verb: Verb) => T): Readonly<Record<Verb, T>> {
  return { GET: of('GET'), HEAD: of('HEAD'), PUT: of('PUT'), DELETE: of('DELETE'), FILL: of('FILL'), LIST: of('LIST') };
}

/** FILL and LIST need a rule that names them, whatever the default. They are enforced in `dryRun` too. */
export function needsRule(verb: Verb): boolean {
  return verb === 'FILL' || verb === 'LIST';
}

export interface Limits {
  readonly maxObjectBytes?: number;
  readonly requestsPerSecond?: number;
  readonly bytesPerSecond?: number;
  /** Part of every shard's bytes, above 0 and at most 1. */
  readonly share?: number;
}

/** The fields that are there are ANDed. */
export interface Subject {
  /** Names or globs. */
  readonly namespaces?: readonly string[];
  readonly namespaceSelector?: Readonly<Record<string, string>>;
  readonly serviceAccounts?: readonly string[];
}

export interface Rule {
  readonly name: string;
  readonly effect: 'allow' | 'deny';
  readonly subjects: readonly Subject[];
  readonly verbs: readonly Verb[];
  /** Prefixes of keys, templates unexpanded. */
  readonly keys: readonly string[];
}

interface Override {
  readonly namespaces: readonly string[];
  readonly limits: Limits;
}

interface PolicyTest {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Labels of the namespace, for rules with a namespaceSelector. */
  readonly labels: Readonly<Record<string, string>>;
  readonly verb: Verb;
  /** A key, or a prefix for a right over all its keys. */
  readonly key: string;
  readonly isPrefix: boolean;
  readonly expect: 'allow' | 'deny';
  readonly line: number;
}

export interface PolicyDocument {
  readonly mode: 'enforce' | 'dryRun';
  readonly default: 'allow' | 'deny';
  readonly limits: Limits;
  readonly rules: readonly Rule[];
  readonly overrides: readonly Override[];
  readonly tests: readonly PolicyTest[];
}

/** Kubernetes allows no longer names, so a longer one matches nothing. */
const maxNamespaceBytes = 63;
const maxLabelBytes = 63;
const maxServiceAccountBytes = 253;
const nameOrGlob = { pattern: /^[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?$/, form: 'a name, with * for any part of it' };
const labelValue = { pattern: /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/, form: 'a label', maxBytes: maxLabelBytes };
const ruleName = { pattern: /^[A-Za-z0-9][-A-Za-z0-9_.]*$/, form: 'a name of 1 to 63 letters, digits, - _ .', maxBytes: 63 };
const keyText = { pattern: /^[\x21-\x7e]*$/, maxBytes: maxKeyBytes };
const testIdentity = {
  pattern: /^[a-z0-9][-a-z0-9]{0,62}\/[a-z0-9][-a-z0-9.]*$/,
  form: 'a namespace and a ServiceAccount, such as vision/trainer',
  maxBytes: maxNamespaceBytes + 1 + maxServiceAccountBytes,
};

/** Reads one document. */
export function parsePolicy(text: string): ReturnType<typeof readStrictly<PolicyDocument>> {
  return readStrictly(text, readDocument);
}

function readDocument(reader: StrictReader, contents: unknown): PolicyDocument {
  const fields = reader.fields(contents, 'the policy', {
    required: ['apiVersion', 'kind', 'mode', 'default', 'rules'],
    optional: ['limits', 'overrides', 'tests'],
  });
  const given = <T>(name: string, read: (node: Node) => T, otherwise: T): T => {
    const node = fields.get(name);
    return node === undefined ? otherwise : read(node);
  };
  given('apiVersion', (node) => reader.choice(node, 'apiVersion', ['kura/v1']), 'kura/v1');
  given('kind', (node) => reader.choice(node, 'kind', ['AccessPolicy']), 'AccessPolicy');
  const names = new Set<string>();
  return {
    mode: given('mode', (node) => reader.choice(node, 'mode', ['enforce', 'dryRun']), 'enforce'),
    default: given('default', (node) => reader.choice(node, 'default', ['deny', 'allow']), 'deny'),
    limits: given('limits', (node) => readLimits(reader, node), {}),
    rules: reader.list(fields.get('rules'), 'rules', (node) => readRule(reader, node, names)),
    overrides: reader.list(fields.get('overrides'), 'overrides', (node) => readOverride(reader, node)),
    tests: reader.list(fields.get('tests'), 'tests', (node) => readTest(reader, node)),
  };
}

function readRule(reader: StrictReader, node: unknown, names: Set<string>): Rule {
  const fields = reader.fields(node, 'a rule', { required: ['name', 'subjects', 'verbs', 'keys'], optional: ['effect'] });
  const name = reader.text(fields.get('name') ?? node, 'name', ruleName);
  if (names.has(name)) reader.wrong(fields.get('name'), `two rules are named "${name}"`);
  names.add(name);
  const effect = fields.get('effect');
  const what = `rule ${name}`;
  return {
    name,
    effect: effect === undefined ? 'allow' : reader.choice(effect, `${what}: effect`, ['allow', 'deny']),
    subjects: reader.list(fields.get('subjects'), `${what}: subjects`, (item) => readSubject(reader, item, what), { mayBeEmpty: false }),
    verbs: reader.list(fields.get('verbs'), `${what}: verbs`, (item) => reader.choice(item, `${what}: a verb`, verbs), {
      mayBeEmpty: false,
    }),
    keys: reader.list(fields.get('keys'), `${what}: keys`, (item) => readPrefix(reader, item, what), { mayBeEmpty: false }),
  };
}

function readPrefix(reader: StrictReader, node: unknown, what: string): string {
  const prefix = readKey(reader, node, `${what}: a key`, 'a prefix of printable ASCII');
  for (const [template] of prefix.matchAll(/\{[^}]*\}?/g)) {
    if (template !== '{namespace}' && template !== '{serviceAccount}') {
      reader.wrong(node, `${what}: ${template} is neither {namespace} nor {serviceAccount}`);
    }
  }
  return prefix;
}

/** Requests reach authz in the canonical spelling alone, so any other would match none of them. */
function readKey(reader: StrictReader, node: unknown, what: string, form: string): string {
  const key = reader.text(node, what, { ...keyText, form });
  const canonical = canonicalKey(key);
  if (canonical === undefined) {
    reader.wrong(node, `${what}: "${key}" covers no key: it has a malformed escape, %2F, %5C, %00 or an escaped . or .. segment`);
  } else if (hasDotSegment(key)) reader.wrong(node, `${what}: "${key}" covers no key: it has a . or .. segment`);
  else if (canonical !== key) reader.wrong(node, `${what}: "${key}" is not canonical; write "${canonical}"`);
  return key;
}

function readSubject(reader: StrictReader, node: unknown, what: string): Subject {
  const fields = reader.fields(node, `${what}: a subject`, {
    required: [],
    optional: ['namespaces', 'namespaceSelector', 'serviceAccounts'],
  });
  if (isMap(node) && fields.size === 0)
    reader.wrong(node, `${what}: a subject without a field would be everybody; write namespaces: ["*"]`);
  const namespaces = fields.get('namespaces');
  const selector = fields.get('namespaceSelector');
  const accounts = fields.get('serviceAccounts');
  return {
    ...(namespaces === undefined ? {} : { namespaces: readNames(reader, namespaces, `${what}: namespaces`, maxNamespaceBytes) }),
    ...(selector === undefined ? {} : { namespaceSelector: readSelector(reader, selector, what) }),
    ...(accounts === undefined ? {} : { serviceAccounts: readNames(reader, accounts, `${what}: serviceAccounts`, maxServiceAccountBytes) }),
  };
}

function readNames(reader: StrictReader, node: Node, what: string, maxBytes: number): string[] {
  return reader.list(node, what, (item) => reader.text(item, what, { ...nameOrGlob, maxBytes }), { mayBeEmpty: false });
}

function readSelector(reader: StrictReader, node: Node, what: string): Record<string, string> {
  const labels = reader.fields(node, `${what}: namespaceSelector`, { required: ['matchLabels'] }).get('matchLabels');
  const read = labels === undefined ? {} : readLabels(reader, labels, `${what}: matchLabels`);
  if (isMap(labels) && labels.items.length === 0) reader.wrong(labels, `${what}: matchLabels is empty, which would be every namespace`);
  return read;
}

function readLabels(reader: StrictReader, node: unknown, what: string): Record<string, string> {
  if (!isMap(node)) {
    reader.wrong(node, `${what} is not a mapping`);
    return {};
  }
  return Object.fromEntries(
    reader.pairs(node, what).map(({ name, value }) => [name, reader.text(value, `${what}: ${name.slice(0, 100)}`, labelValue)]),
  );
}

function readOverride(reader: StrictReader, node: unknown): Override {
  const fields = reader.fields(node, 'an override', { required: ['namespaces', 'limits'] });
  const namespaces = fields.get('namespaces');
  const limits = fields.get('limits');
  return {
    namespaces: namespaces === undefined ? [] : readNames(reader, namespaces, 'an override: namespaces', maxNamespaceBytes),
    limits: limits === undefined ? {} : readLimits(reader, limits),
  };
}

function readLimits(reader: StrictReader, node: unknown): Limits {
  const fields = reader.fields(node, 'limits', {
    required: [],
    optional: ['maxObjectBytes', 'requestsPerSecond', 'bytesPerSecond', 'share'],
  });
  const read = (name: string, value: (node: Node) => number): Record<string, number> => {
    const field = fields.get(name);
    return field === undefined ? {} : { [name]: value(field) };
  };
  return {
    ...read('maxObjectBytes', (field) => reader.bytes(field, 'maxObjectBytes', { min: 0, max: maxSignedNumber })),
    ...read('requestsPerSecond', (field) => reader.number(field, 'requestsPerSecond', { min: 1, max: 1e9 })),
    ...read('bytesPerSecond', (field) => reader.bytes(field, 'bytesPerSecond', { min: 1, max: maxSignedNumber })),
    ...read('share', (field) => reader.number(field, 'share', { min: 0.000_1, max: 1 })),
  };
}

function readTest(reader: StrictReader, node: unknown): PolicyTest {
  const fields = reader.fields(node, 'a test', { required: ['as', 'verb', 'expect'], optional: ['key', 'prefix', 'labels'] });
  const as = reader.text(fields.get('as') ?? node, 'as', testIdentity);
  const [namespace = '', serviceAccount = ''] = as.split('/');
  const [labels, key, prefix] = ['labels', 'key', 'prefix'].map((name) => fields.get(name));
  const verb = reader.choice(fields.get('verb') ?? node, 'verb', verbs);
  if ((key === undefined) === (prefix === undefined)) reader.wrong(node, 'a test must have one of key and prefix');
  else if (verb === 'LIST' && key !== undefined) reader.wrong(key, 'LIST is a right over a prefix; write prefix instead of key');
  return {
    namespace,
    serviceAccount,
    labels: labels === undefined ? {} : readLabels(reader, labels, 'a test: labels'),
    verb,
    key: prefix === undefined ? readKey(reader, key ?? node, 'key', 'a key of printable ASCII') : readTestPrefix(reader, prefix),
    isPrefix: prefix !== undefined,
    expect: reader.choice(fields.get('expect') ?? node, 'expect', ['allow', 'deny']),
    line: reader.line(node),
  };
}

function readTestPrefix(reader: StrictReader, node: Node): string {
  const prefix = readKey(reader, node, 'prefix', 'a prefix of printable ASCII');
  if (prefix !== '' && !prefix.endsWith('/')) reader.wrong(node, `prefix: "${prefix}" must end with /`);
  return prefix;
}

export type Rates = Pick<Limits, 'requestsPerSecond' | 'bytesPerSecond'>;

/** Whether authz has to see every request of the namespace. */
export function isRateLimited({ requestsPerSecond, bytesPerSecond }: Rates): boolean {
  return requestsPerSecond !== undefined || bytesPerSecond !== undefined;
}
