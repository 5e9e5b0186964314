/** Watches the policy in ConfigMap kura-policy and the labels of namespaces. The last valid policy stays in force. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { V1ConfigMap, V1Namespace } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import type { ObjectChange } from '../../shared/object-copies.ts';
import { Reflector } from '../../shared/reflector.ts';
import { replaceFile } from '../../shared/write-file.ts';
import type { Labels, Policy } from './policy.ts';
import { PolicyEvents } from './policy-events.ts';
import { type CompiledText, compileText, describeProblems } from './policy-text.ts';
import type { Problem } from './strict-reader.ts';

const configMapName = 'kura-policy';
const configMapKey = 'policy.yaml';
const nextKey = 'policy.next.yaml';

interface PolicySourceOptions {
  readonly client: KubernetesClient;
  /** Namespace of the ConfigMap. */
  readonly namespace: string;
  /** File that keeps the last valid document for a restart; undefined = no file. */
  readonly lastGoodFile: string | undefined;
  readonly log: Logger;
  /** Replaced by tests of a fault. */
  readonly compile?: (text: string) => CompiledText;
}

/** One shared object: accesses are cached by the reference of their labels. */
const noLabels: Labels = {};

/** Watches ConfigMap kura-policy and the labels of namespaces from its construction until it is closed. */
export class PolicySource {
  readonly #options: PolicySourceOptions;
  readonly #namespaces: Reflector<V1Namespace>;
  readonly #configMaps: Reflector<V1ConfigMap>;
  readonly #events: PolicyEvents;
  #policy: Policy | undefined;
  #hash: string | undefined;
  /** Hash of the document in the ConfigMap, which may be a rejected one. */
  #seenHash: string | undefined;
  #next: Policy | undefined;
  #nextHash: string | undefined;
  #accepted = 0;
  #rejected = 0;
  /** The reason why no policy is in force, in one line. */
  #complaint: string;
  /** Chains the writes of the saved policy, because two concurrent writes would share one file. */
  #saving: Promise<void> = Promise.resolve();

  constructor(options: PolicySourceOptions) {
    this.#options = options;
    const { client, namespace, lastGoodFile, log } = options;
    this.#events = new PolicyEvents({ client, log });
    this.#complaint = `ConfigMap ${configMapName} of namespace ${namespace} has not been read yet`;
    if (lastGoodFile !== undefined) this.#restore(lastGoodFile);
    this.#namespaces = new Reflector<V1Namespace>({ client, path: '/api/v1/namespaces', metadataOnly: true, log });
    this.#configMaps = new Reflector<V1ConfigMap>({
      client,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      fieldSelector: `metadata.name=${configMapName}`,
      onChange: (change) => this.#follow(change),
      log,
    });
  }

  /**
   * Undefined until a policy is known, and the labels of namespaces if one of its rules needs them. Without labels, a rule that denies by
   * label would not apply.
   */
  get current(): Policy | undefined {
    return this.#withLabels(this.#policy);
  }

  /** The valid policy of `policy.next.yaml`, which is evaluated but not enforced; undefined when there is none. */
  get next(): Policy | undefined {
    return this.#withLabels(this.#next);
  }

  /** The reason why `current` is undefined, in one line. */
  get missing(): string {
    return this.#policy === undefined
      ? `no policy yet: ${this.#complaint}`
      : 'no policy yet: the labels of the namespaces have not been read yet';
  }

  /** Hash of the document in force. */
  get hash(): string | undefined {
    return this.#hash;
  }

  /** Number of documents accepted since the start. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Number of documents rejected since the start. */
  get rejected(): number {
    return this.#rejected;
  }

  get isWatching(): boolean {
    return this.#configMaps.healthy && this.#namespaces.healthy;
  }

  /** Returns the same object until the labels change. */
  labelsOf(namespace: string): Labels {
    return this.#namespaces.get(namespace)?.metadata?.labels ?? noLabels;
  }

  async close(): Promise<void> {
    await Promise.all([this.#configMaps.close(), this.#namespaces.close()]);
    await this.#saving;
  }

  #withLabels(policy: Policy | undefined): Policy | undefined {
    return policy?.needsLabels === false || this.#namespaces.synced ? policy : undefined;
  }

  #follow({ type, object }: ObjectChange<V1ConfigMap>): void {
    if (type === 'deleted') {
      this.#seenHash = undefined;
      this.#complaint = `ConfigMap ${configMapName} was deleted`;
      this.#options.log.warn(`the policy was deleted: ${this.#fallback()}`);
      return;
    }
    this.#take(object);
    this.#takeNext(object);
  }

  #take(configMap: V1ConfigMap): void {
    const { log } = this.#options;
    const text = configMap.data?.[configMapKey] ?? '';
    const hash = hashOf(text);
    // A return to the document in force is reported too: the last Event has to be about the present document.
    if (hash === this.#seenHash) return;
    this.#seenHash = hash;
    const result = this.#compile(text);
    if (result.kind === 'rejected') {
      this.#rejected++;
      const problems = describeProblems(result.problems);
      this.#complaint = `the policy is rejected: ${problems[0]}`;
      log.error({ hash, problems }, `the policy is rejected: ${this.#fallback()}`);
      this.#events.report(configMap, { reason: 'PolicyRejected', hash, message: problems.join('; ') });
      return;
    }
    const { policy, warnings } = result;
    this.#policy = policy;
    this.#hash = hash;
    this.#accepted++;
    const { rules, mode } = policy.document;
    log.info({ hash, rules: rules.length, mode, warnings: describeProblems(warnings) }, 'the policy is in force');
    this.#events.report(configMap, { reason: 'PolicyAccepted', hash, message: `policy ${hash} is in force${warningText(warnings)}` });
    this.#save(text);
  }

  /** There is no last valid next policy: an invalid one counts as none. */
  #takeNext(configMap: V1ConfigMap): void {
    const { log } = this.#options;
    const text = configMap.data?.[nextKey];
    const [before, hash] = [this.#nextHash, text === undefined ? undefined : hashOf(text)];
    if (hash === before) return;
    this.#nextHash = hash;
    const result = text === undefined ? undefined : this.#compile(text);
    this.#next = result?.kind === 'policy' ? result.policy : undefined;
    const report = (reason: 'NextPolicyAccepted' | 'NextPolicyRejected' | 'NextPolicyRemoved', message: string): void =>
      this.#events.report(configMap, { reason, hash: hash ?? before ?? '', message });
    switch (result?.kind) {
      case 'rejected': {
        const problems = describeProblems(result.problems);
        log.error({ hash, problems }, 'the next policy is rejected');
        report('NextPolicyRejected', `there is no next policy: ${problems.join('; ')}`);
        break;
      }
      case 'policy':
        log.info({ hash, warnings: describeProblems(result.warnings) }, 'the next policy is evaluated but not enforced');
        report('NextPolicyAccepted', `next policy ${hash} is evaluated but not enforced${warningText(result.warnings)}`);
        break;
      default:
        log.info('the next policy was removed');
        report('NextPolicyRemoved', `next policy ${before} was removed`);
    }
  }

  /** A document must not end the watch that brought it, so a fault of kura rejects it too. */
  #compile(text: string): CompiledText {
    const { compile = compileText, log } = this.#options;
    try {
      return compile(text);
    } catch (error) {
      log.error({ err: error }, 'unexpected fault while compiling a policy');
      return { kind: 'rejected', problems: [{ line: 1, column: 1, message: `cannot compile the policy: ${(error as Error).message}` }] };
    }
  }

  #fallback(): string {
    return this.#policy === undefined ? 'no policy is in force' : 'the previous policy stays in force';
  }

  #save(text: string): void {
    const { lastGoodFile, log } = this.#options;
    if (lastGoodFile === undefined) return;
    this.#saving = this.#saving
      .then(() => replaceFile(lastGoodFile, text))
      .catch((error: Error) => log.warn({ err: error, file: lastGoodFile }, 'cannot save the policy for a restart'));
  }

  #restore(file: string): void {
    const { log } = this.#options;
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn({ err: error, file }, 'cannot read the saved policy');
      return;
    }
    const result = this.#compile(text);
    if (result.kind === 'rejected') {
      log.warn({ file, problems: describeProblems(result.problems) }, 'the saved policy is no longer valid; ignoring it');
      return;
    }
    this.#policy = result.policy;
    this.#hash = hashOf(text);
    log.info({ file, hash: this.#hash }, 'the saved policy is in force until the API sends one');
  }
}

function warningText(warnings: readonly Problem[]): string {
  return warnings.length === 0 ? '' : `, with warnings: ${describeProblems(warnings).join('; ')}`;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
