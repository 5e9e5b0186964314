/** Whatever a client sends, in either protocol, the invariants of nonce, version and subscription hold. */
import test from 'ava';
import fc from 'fast-check';
import { type ResourceVersions, type Response, Subscription, type SubscriptionRequest } from '../../services/eds/subscription.ts';

const names = fc.constantFrom('a', 'b', 'c', '*');
const nameLists = fc.uniqueArray(names);
/** The nonce of a request: none, that of a past response (0 = the last), or an invented one. */
const nonces = fc.oneof(fc.constant('none' as const), fc.nat(3), fc.constant('junk' as const));
const refusals = fc.option(fc.constant('no'), { nil: undefined });
const versions = fc.constantFrom('', 'v1', 'v2', 'v3', 'world');
const worlds = fc
  .dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2', '3'), { maxKeys: 3 })
  .map(
    (held): ResourceVersions => ({ version: `v${JSON.stringify(Object.entries(held).sort())}`, versions: new Map(Object.entries(held)) }),
  );
type Step =
  | { kind: 'world'; world: ResourceVersions }
  | { kind: 'full'; names: string[]; version: string; nonce: 'none' | 'junk' | number; refusal: string | undefined }
  | {
      kind: 'delta';
      subscribe: string[];
      unsubscribe: string[];
      initial: Record<string, string>;
      nonce: 'none' | 'junk' | number;
      refusal: string | undefined;
    };
const worldSteps = worlds.map((world): Step => ({ kind: 'world', world }));
const fullSteps = fc.record({ kind: fc.constant('full' as const), names: nameLists, version: versions, nonce: nonces, refusal: refusals });
const deltaSteps = fc.record({
  kind: fc.constant('delta' as const),
  subscribe: nameLists,
  unsubscribe: nameLists,
  initial: fc.dictionary(fc.constantFrom('a', 'b'), fc.constantFrom('1', '2'), { maxKeys: 2 }),
  nonce: nonces,
  refusal: refusals,
});

/** What the client has by what it was sent, and whom it asked for: a naive second book-keeping. */
class Model {
  readonly answers: Response[] = [];
  wanted = new Set<string>();
  isWildcard = false;
  hasNamed = false;
  isOpen = false;

  nonceOf(choice: 'none' | 'junk' | number): string {
    if (choice === 'none') return '';
    if (choice === 'junk') return 'junk';
    return this.answers.at(-1 - choice)?.nonce ?? '';
  }

  wants(name: string): boolean {
    return this.isWildcard || this.wanted.has(name);
  }

  full(list: readonly string[], nonce: string): void {
    if (this.isOpen && nonce !== '' && nonce !== this.answers.at(-1)?.nonce) return;
    this.isOpen = true;
    this.hasNamed ||= list.length > 0;
    this.wanted = new Set(list);
    this.isWildcard = this.wanted.has('*') || !this.hasNamed;
  }

  delta(subscribe: readonly string[], unsubscribe: readonly string[]): void {
    if (!this.isOpen && subscribe.length === 0) this.wanted.add('*');
    this.isOpen = true;
    for (const name of subscribe) this.wanted.add(name);
    for (const name of unsubscribe) this.wanted.delete(name);
    this.isWildcard = this.wanted.has('*');
  }
}

function run(kind: 'full' | 'delta', steps: readonly Step[]): void {
  const subscription = new Subscription(kind);
  const model = new Model();
  let world: ResourceVersions = { version: 'world', versions: new Map() };
  for (const step of steps) {
    if (step.kind === 'world') world = step.world;
    else {
      const nonce = model.nonceOf(step.nonce);
      const request: SubscriptionRequest =
        step.kind === 'full'
          ? { kind: 'full', names: step.names, version: step.version, nonce, refusal: step.refusal }
          : {
              kind: 'delta',
              subscribe: step.subscribe,
              unsubscribe: step.unsubscribe,
              initialVersions: step.initial,
              nonce,
              refusal: step.refusal,
            };
      const isFirst = !model.isOpen;
      if (step.kind === 'full') model.full(step.names, nonce);
      else model.delta(step.subscribe, step.unsubscribe);
      const outcome = subscription.receive(request);
      if (outcome.kind === 'ack' || outcome.kind === 'nack') {
        if (isFirst || nonce !== model.answers.at(-1)?.nonce) throw new Error('a response other than the last one was settled');
        if (outcome.version !== model.answers.at(-1)?.version) throw new Error('another version was settled than was sent');
      }
    }
    const answer = subscription.nextResponse(world);
    if (answer !== undefined) {
      if (!model.isOpen) throw new Error('a response without a request');
      if (answer.nonce !== String(model.answers.length + 1)) throw new Error('nonces do not count responses');
      if (answer.version !== world.version) throw new Error('a response with another version');
      for (const name of answer.names) {
        if (!model.wants(name)) throw new Error(`${name} was sent unasked`);
        if (!world.versions.has(name)) throw new Error(`${name} was sent but does not exist`);
      }
      for (const name of answer.removed) {
        if (kind === 'full') throw new Error('state of the world cannot say removed');
        if (world.versions.has(name)) throw new Error(`${name} exists and was reported as removed`);
      }
      model.answers.push(answer);
    }
    if (subscription.nextResponse(world) !== undefined) throw new Error('a second call without a change returned a response');
  }
}

test('random sequences of state-of-the-world messages and changes keep every invariant', (t) => {
  const property = fc.property(fc.array(fc.oneof(worldSteps, fullSteps), { maxLength: 30 }), (steps) => run('full', steps));
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});

test('random sequences of delta messages and changes keep every invariant', (t) => {
  const property = fc.property(fc.array(fc.oneof(worldSteps, deltaSteps), { maxLength: 30 }), (steps) => run('delta', steps));
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});

test('a client that follows the protocol ends with exactly the resources of its subscription', (t) => {
  const changes = fc.array(
    fc.oneof(
      worldSteps,
      nameLists.map((list) => ({ kind: 'names' as const, list })),
    ),
    { minLength: 1, maxLength: 30 },
  );
  const property = fc.property(changes, fc.constantFrom('full' as const, 'delta' as const), (steps, kind) => {
    const subscription = new Subscription(kind);
    const has = new Map<string, string>();
    let asked = new Set<string>(['a']);
    let world: ResourceVersions = { version: '', versions: new Map() };
    const say = (list: ReadonlySet<string>, nonce = '', version = ''): void => {
      const before = asked;
      asked = new Set(list);
      const isWildcard = asked.has('*');
      if (kind === 'full') subscription.receive({ kind, names: [...asked], version, nonce, refusal: undefined });
      else {
        const subscribe = [...asked].filter((name) => !before.has(name));
        const unsubscribe = [...before].filter((name) => !asked.has(name));
        subscription.receive({ kind, subscribe, unsubscribe, initialVersions: {}, nonce, refusal: undefined });
      }
      for (const name of [...has.keys()]) if (!asked.has(name) && !isWildcard) has.delete(name);
    };
    const follow = (): void => {
      const answer = subscription.nextResponse(world);
      if (answer === undefined) return;
      for (const name of answer.names) has.set(name, world.versions.get(name) as string);
      for (const name of answer.removed) has.delete(name);
      say(asked, answer.nonce, answer.version);
    };
    if (kind === 'full') say(asked);
    else subscription.receive({ kind, subscribe: ['a'], unsubscribe: [], initialVersions: {}, nonce: '', refusal: undefined });
    for (const step of steps) {
      if (step.kind === 'world') world = step.world;
      // At least one name: an empty first list would mean everything.
      else if (step.kind === 'names') say(new Set(step.list.length === 0 ? ['a'] : step.list));
      follow();
      // State of the world has no word for "gone": what vanished stays with the client.
      for (const [name, version] of world.versions) {
        if ((asked.has('*') || asked.has(name)) && has.get(name) !== version) throw new Error(`${name} is not up to date`);
      }
      if (kind === 'delta') for (const name of has.keys()) if (!world.versions.has(name)) throw new Error(`${name} should be gone`);
    }
  });
  t.notThrows(() => fc.assert(property, { numRuns: 2_000 }));
});
