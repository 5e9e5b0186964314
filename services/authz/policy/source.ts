/** Watches the policy in ConfigMap kura-policy and the labels of namespaces. The last valid policy stays in force. */
import type { V1ConfigMap, V1Namespace } from '@kubernetes/client-node';
import { DocumentSource, hashOf, warningText } from '../../shared/document-source.ts';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import { Reflector } from '../../shared/reflector.ts';
import { type Compiled, describeProblems } from '../../shared/strict-reader.ts';
import type { Labels, Policy } from './policy.ts';
import { compileText } from './policy-text.ts';

const nextKey = 'policy.next.yaml';

interface PolicySourceOptions {
  readonly client: KubernetesClient;
  /** Namespace of the ConfigMap. */
  readonly namespace: string;
  /** File that keeps the last valid document for a restart; undefined = no file. */
  readonly lastGoodFile: string | undefined;
  readonly log: Logger;
  /** Replaced by tests of a fault. */
  readonly compile?: (text: string) => Compiled<Policy>;
}

/** The state of the policy, for `/debug/policy`. */
export interface PolicyReport {
  /** Undefined before the first valid document. */
  readonly inForce: { readonly hash: string; readonly mode: string; readonly since: Date; readonly document: string } | undefined;
  /** The reason why the policy in force is not the document in the ConfigMap; undefined when it is. */
  readonly problem: string | undefined;
  /** The document of `policy.next.yaml`; undefined without one. */
  readonly next: { readonly hash: string; readonly problem: string | undefined } | undefined;
}

/** One shared object: accesses are cached by the reference of their labels. */
const noLabels: Labels = {};

/** Watches ConfigMap kura-policy and the labels of namespaces from its construction until it is closed. */
export class PolicySource {
  readonly #log: Logger;
  readonly #namespaces: Reflector<V1Namespace>;
  readonly #document: DocumentSource<Policy>;
  #next: Policy | undefined;
  #nextHash: string | undefined;
  #nextProblem: string | undefined;

  constructor({ client, namespace, lastGoodFile, log, compile = compileText }: PolicySourceOptions) {
    this.#log = log;
    this.#document = new DocumentSource<Policy>({
      client,
      namespace,
      configMap: 'kura-policy',
      key: 'policy.yaml',
      what: 'policy',
      component: 'kura-authz',
      compile,
      summary: ({ document: { rules, mode } }) => ({ rules: rules.length, mode }),
      lastGoodFile,
      onConfigMap: (configMap) => this.#takeNext(configMap),
      log,
    });
    this.#namespaces = new Reflector<V1Namespace>({ client, path: '/api/v1/namespaces', metadataOnly: true, log });
  }

  /**
   * Undefined until a policy is known, and the labels of namespaces if one of its rules needs them. Without labels, a rule that denies by
   * label would not apply.
   */
  get current(): Policy | undefined {
    return this.#withLabels(this.#document.current);
  }

  /** The valid policy of `policy.next.yaml`, which is evaluated but not enforced; undefined when there is none. */
  get next(): Policy | undefined {
    return this.#withLabels(this.#next);
  }

  /** The reason why `current` is undefined, in one line. */
  get missing(): string {
    return this.#document.current === undefined
      ? `no policy yet: ${this.#document.complaint}`
      : 'no policy yet: the labels of the namespaces have not been read yet';
  }

  /** Hash of the document in force. */
  get hash(): string | undefined {
    return this.#document.hash;
  }

  report(): PolicyReport {
    const { current, hash, text, since, problem } = this.#document;
    return {
      inForce:
        current === undefined || hash === undefined || text === undefined || since === undefined
          ? undefined
          : { hash, mode: current.document.mode, since, document: text },
      problem,
      next: this.#nextHash === undefined ? undefined : { hash: this.#nextHash, problem: this.#nextProblem },
    };
  }

  /** Number of documents accepted since the start. */
  get accepted(): number {
    return this.#document.accepted;
  }

  /** Number of documents rejected since the start. */
  get rejected(): number {
    return this.#document.rejected;
  }

  get isWatching(): boolean {
    return this.#document.isWatching && this.#namespaces.healthy;
  }

  /** Returns the same object until the labels change. */
  labelsOf(namespace: string): Labels {
    return this.#namespaces.get(namespace)?.metadata?.labels ?? noLabels;
  }

  async close(): Promise<void> {
    await Promise.all([this.#document.close(), this.#namespaces.close()]);
  }

  #withLabels(policy: Policy | undefined): Policy | undefined {
    return policy?.needsLabels === false || this.#namespaces.synced ? policy : undefined;
  }

  /** There is no last valid next policy: an invalid one counts as none. */
  #takeNext(configMap: V1ConfigMap): void {
    const log = this.#log;
    const text = configMap.data?.[nextKey];
    const [before, hash] = [this.#nextHash, text === undefined ? undefined : hashOf(text)];
    if (hash === before) return;
    this.#nextHash = hash;
    const result = text === undefined ? undefined : this.#document.compile(text);
    this.#next = result?.kind === 'document' ? result.value : undefined;
    this.#nextProblem = result?.kind === 'rejected' ? describeProblems(result.problems)[0] : undefined;
    const report = (reason: string, message: string): void =>
      this.#document.events.report(configMap, { reason, hash: hash ?? before ?? '', message });
    switch (result?.kind) {
      case 'rejected': {
        const problems = describeProblems(result.problems);
        log.error({ hash, problems }, 'the next policy is rejected');
        report('NextPolicyRejected', `there is no next policy: ${problems.join('; ')}`);
        break;
      }
      case 'document':
        log.info({ hash, warnings: describeProblems(result.warnings) }, 'the next policy is evaluated but not enforced');
        report('NextPolicyAccepted', `next policy ${hash} is evaluated but not enforced${warningText(result.warnings)}`);
        break;
      default:
        log.info('the next policy was removed');
        report('NextPolicyRemoved', `next policy ${before} was removed`);
    }
  }
}
