/** Watches one document in a ConfigMap. The last valid one stays in force, also over a restart without the Kubernetes API. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { ConfigMapEvents, type DocumentOutcome } from './config-map-events.ts';
import type { KubernetesClient } from './kubernetes.ts';
import type { Logger } from './log.ts';
import type { ObjectChange } from './object-copies.ts';
import { Reflector } from './reflector.ts';
import { type Compiled, describeProblems, type Problem } from './strict-reader.ts';
import { replaceFile } from './write-file.ts';

interface DocumentSourceOptions<T> {
  readonly client: KubernetesClient;
  readonly namespace: string;
  readonly configMap: string;
  /** Key of the document in the ConfigMap. */
  readonly key: string;
  /** Kind of the document in log lines and Events, such as `policy`; the reasons of Events begin with it, such as `PolicyAccepted`. */
  readonly what: string;
  /** Source of the Events, such as `kura-authz`. */
  readonly component: string;
  /** False: another service watches the document too and writes the Events. */
  readonly writesEvents?: boolean;
  /** True: without the ConfigMap no document is in force, also after a deletion. False: the last valid one stays in force. */
  readonly isOptional?: boolean;
  readonly compile: (text: string) => Compiled<T>;
  /** Fields that the log line of an accepted document gets. */
  readonly summary: (value: T) => object;
  /** File that keeps the last valid document for a restart; undefined = no file. */
  readonly lastGoodFile: string | undefined;
  /** Called with each document that comes into force, the saved one included. */
  readonly onChange?: (value: T) => void;
  /** Called with the ConfigMap after each change. */
  readonly onConfigMap?: (configMap: V1ConfigMap) => void;
  readonly log: Logger;
}

/** Watches from its construction until it is closed. */
export class DocumentSource<T> {
  readonly events: ConfigMapEvents;
  readonly #options: DocumentSourceOptions<T>;
  readonly #configMaps: Reflector<V1ConfigMap>;
  #current: T | undefined;
  #hash: string | undefined;
  #text: string | undefined;
  #since: Date | undefined;
  /** Hash of the document in the ConfigMap, which may be a rejected one. */
  #seenHash: string | undefined;
  #accepted = 0;
  #rejected = 0;
  #complaint: string;
  /** Chains the writes of the saved document, because two concurrent writes would share one file. */
  #saving: Promise<void> = Promise.resolve();

  constructor(options: DocumentSourceOptions<T>) {
    this.#options = options;
    const { client, namespace, configMap, component, lastGoodFile, log } = options;
    this.events = new ConfigMapEvents({ client, component, log });
    this.#complaint = `ConfigMap ${configMap} of namespace ${namespace} has not been read yet`;
    if (lastGoodFile !== undefined) this.#restore(lastGoodFile);
    this.#configMaps = new Reflector<V1ConfigMap>({
      client,
      path: `/api/v1/namespaces/${namespace}/configmaps`,
      fieldSelector: `metadata.name=${configMap}`,
      onChange: (change) => this.#follow(change),
      log,
    });
  }

  /** The document in force. */
  get current(): T | undefined {
    return this.#isAbsent ? undefined : this.#current;
  }

  /** Hash of the document in force. */
  get hash(): string | undefined {
    return this.#isAbsent ? undefined : this.#hash;
  }

  /** The text of the document in force. */
  get text(): string | undefined {
    return this.#text;
  }

  /** When this process began to use the document in force. */
  get since(): Date | undefined {
    return this.#since;
  }

  /** The reason why the document in force is not the one in the ConfigMap, in one line; undefined when it is. */
  get problem(): string | undefined {
    return this.#hash !== undefined && this.#hash === this.#seenHash ? undefined : this.#complaint;
  }

  /** The reason why no document is in force, in one line. */
  get complaint(): string {
    return this.#complaint;
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
    return this.#configMaps.healthy;
  }

  /** Without a response of the API, the saved document counts. */
  get #isAbsent(): boolean {
    const { isOptional = false, namespace, configMap } = this.#options;
    return isOptional && this.#configMaps.synced && this.#configMaps.get(`${namespace}/${configMap}`) === undefined;
  }

  async close(): Promise<void> {
    await this.#configMaps.close();
    await this.#saving;
  }

  /** A document must not end the watch that brought it, so a fault of kura rejects it too. */
  compile(text: string): Compiled<T> {
    const { compile, what, log } = this.#options;
    try {
      return compile(text);
    } catch (error) {
      log.error({ err: error }, `unexpected fault while compiling the ${what}`);
      return { kind: 'rejected', problems: [{ line: 1, column: 1, message: `cannot compile the ${what}: ${(error as Error).message}` }] };
    }
  }

  #follow({ type, object }: ObjectChange<V1ConfigMap>): void {
    const { what, configMap, onConfigMap, log } = this.#options;
    if (type === 'deleted') {
      this.#seenHash = undefined;
      this.#complaint = `ConfigMap ${configMap} was deleted`;
      log.warn(`the ${what} was deleted: ${this.#fallback()}`);
      return;
    }
    this.#take(object);
    onConfigMap?.(object);
  }

  #take(configMap: V1ConfigMap): void {
    const { what, key, summary, onChange, log } = this.#options;
    const text = configMap.data?.[key] ?? '';
    const hash = hashOf(text);
    // A return to the document in force is reported too: the last Event has to be about the present document.
    if (hash === this.#seenHash) return;
    this.#seenHash = hash;
    const reason = what.replace(/(?:^| )([a-z])/g, (_whole, letter: string) => letter.toUpperCase());
    const result = this.compile(text);
    if (result.kind === 'rejected') {
      this.#rejected++;
      const problems = describeProblems(result.problems);
      this.#complaint = `the ${what} is rejected: ${problems[0]}`;
      log.error({ hash, problems }, `the ${what} is rejected: ${this.#fallback()}`);
      this.#report(configMap, { reason: `${reason}Rejected`, hash, message: problems.join('; ') });
      return;
    }
    this.#enforce(text, result.value);
    this.#accepted++;
    onChange?.(result.value);
    log.info({ hash, ...summary(result.value), warnings: describeProblems(result.warnings) }, `the ${what} is in force`);
    this.#report(configMap, { reason: `${reason}Accepted`, hash, message: `${what} ${hash} is in force${warningText(result.warnings)}` });
    this.#save(text);
  }

  #enforce(text: string, value: T): void {
    this.#current = value;
    this.#hash = hashOf(text);
    this.#text = text;
    this.#since = new Date();
  }

  #report(configMap: V1ConfigMap, outcome: DocumentOutcome): void {
    if (this.#options.writesEvents !== false) this.events.report(configMap, outcome);
  }

  #fallback(): string {
    const { what } = this.#options;
    return this.current === undefined ? `no ${what} is in force` : `the previous ${what} stays in force`;
  }

  #save(text: string): void {
    const { lastGoodFile, what, log } = this.#options;
    if (lastGoodFile === undefined) return;
    this.#saving = this.#saving
      .then(() => replaceFile(lastGoodFile, text))
      .catch((error: Error) => log.warn({ err: error, file: lastGoodFile }, `cannot save the ${what} for a restart`));
  }

  #restore(file: string): void {
    const { what, onChange, log } = this.#options;
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn({ err: error, file }, `cannot read the saved ${what}`);
      return;
    }
    const result = this.compile(text);
    if (result.kind === 'rejected') {
      log.warn({ file, problems: describeProblems(result.problems) }, `the saved ${what} is no longer valid; ignoring it`);
      return;
    }
    this.#enforce(text, result.value);
    onChange?.(result.value);
    log.info({ file, hash: this.#hash }, `the saved ${what} is in force until the API sends one`);
  }
}

/** For an Event: `, with warnings: …`. */
export function warningText(warnings: readonly Problem[]): string {
  return warnings.length === 0 ? '' : `, with warnings: ${describeProblems(warnings).join('; ')}`;
}

/** Names a document in logs and Events. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
