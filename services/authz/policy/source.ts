/** Where the policy comes from: ConfigMap kura-policy by watch, and the labels of namespaces by another. The last good policy stays in force whatever happens to it. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { ApiException, CoreV1Api, type V1ConfigMap, type V1Namespace } from '@kubernetes/client-node';
import type { KubernetesClient } from '../../shared/kubernetes.ts';
import type { Logger } from '../../shared/log.ts';
import { startReflector } from '../../shared/reflector.ts';
import { parsePolicy } from './document.ts';
import { type CompiledPolicy, compilePolicy, type Labels, type Policy } from './policy.ts';
import type { Problem } from './strict-reader.ts';

const configMapName = 'kura-policy';
const configMapKey = 'policy.yaml';
const nextKey = 'policy.next.yaml';
/** How many problems of a rejected document are logged and put into its Event. */
const shownProblems = 5;

export interface PolicySource {
  /** Undefined until one was seen and the labels of namespaces are known. */
  readonly current: Policy | undefined;
  /** What `policy.next.yaml` says, evaluated in the shadow; undefined without a good one. */
  readonly next: Policy | undefined;
  /** Why `current` is undefined, in a line. */
  readonly missing: string;
  /** Of the document in force: a hash of its text. */
  readonly hash: string | undefined;
  /** How many documents were taken and rejected since the start. */
  readonly accepted: number;
  readonly rejected: number;
  readonly isWatching: boolean;
  /** The same object as long as they do not change. */
  labelsOf(namespace: string): Labels;
  close(): Promise<void>;
}

interface PolicySourceOptions {
  readonly client: KubernetesClient;
  /** Of the ConfigMap. */
  readonly namespace: string;
  /** Keeps the last good document over a restart; undefined = nowhere. */
  readonly lastGoodFile: string | undefined;
  readonly log: Logger;
}

/** One object, so that what was computed with it is known to hold still. */
const noLabels: Labels = {};

export function startPolicySource({ client, namespace, lastGoodFile, log }: PolicySourceOptions): PolicySource {
  const core = client.api(CoreV1Api);
  let policy: Policy | undefined;
  let next: Policy | undefined;
  let nextHash: string | undefined;
  let hash: string | undefined;
  let accepted = 0;
  let rejected = 0;
  let complaint = `ConfigMap ${configMapName} of namespace ${namespace} has not been seen`;
  let keeping: Promise<void> = Promise.resolve();
  if (lastGoodFile !== undefined) restore(lastGoodFile);

  const namespaces = startReflector<V1Namespace>({ client, path: '/api/v1/namespaces', metadataOnly: true, log });
  const configMaps = startReflector<V1ConfigMap>({
    client,
    path: `/api/v1/namespaces/${namespace}/configmaps`,
    fieldSelector: `metadata.name=${configMapName}`,
    onChange: ({ type, object }) => {
      if (type === 'deleted') {
        complaint = `ConfigMap ${configMapName} was deleted`;
        log.warn(`the policy was deleted: ${whatHolds()}`);
      } else {
        take(object);
        takeNext(object.data?.[nextKey]);
      }
    },
    log,
  });
  return {
    get current() {
      // A rule that denies by label would not be one as long as no label is known.
      return namespaces.synced ? policy : undefined;
    },
    get next() {
      return namespaces.synced ? next : undefined;
    },
    get missing() {
      return policy === undefined ? `no policy yet: ${complaint}` : 'no policy yet: the labels of the namespaces are not known';
    },
    get hash() {
      return hash;
    },
    get accepted() {
      return accepted;
    },
    get rejected() {
      return rejected;
    },
    get isWatching() {
      return configMaps.healthy && namespaces.healthy;
    },
    labelsOf: (name) => namespaces.get(name)?.metadata?.labels ?? noLabels,
    close: async () => {
      await Promise.all([configMaps.close(), namespaces.close()]);
      await keeping;
    },
  };

  function whatHolds(): string {
    return policy === undefined ? 'there is none in force' : 'the last one stays in force';
  }

  function restore(file: string): void {
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') log.warn({ err: error, file }, 'the last good policy cannot be read');
      return;
    }
    const result = compileText(text);
    if (result.kind === 'rejected') {
      log.warn({ file, problems: describe(result.problems) }, 'the last good policy is one no longer');
      return;
    }
    policy = result.policy;
    hash = hashOf(text);
    log.info({ file, hash }, 'the last good policy is in force until the API gives one');
  }

  function take(configMap: V1ConfigMap): void {
    const text = configMap.data?.[configMapKey] ?? '';
    const news = hashOf(text);
    if (news === hash && policy !== undefined) return;
    const result = compileText(text);
    if (result.kind === 'rejected') {
      rejected++;
      const problems = describe(result.problems);
      complaint = `the policy is rejected: ${problems[0]}`;
      log.error({ hash: news, problems }, `the policy is rejected: ${whatHolds()}`);
      report(configMap, { reason: 'PolicyRejected', type: 'Warning', hash: news, message: problems.join('; ') });
      return;
    }
    policy = result.policy;
    hash = news;
    accepted++;
    log.info(
      { hash, rules: policy.document.rules.length, mode: policy.document.mode, warnings: describe(result.warnings) },
      'the policy is in force',
    );
    report(configMap, { reason: 'PolicyAccepted', type: 'Normal', hash, message: `policy ${hash} is in force` });
    if (lastGoodFile !== undefined) {
      // One after the other: two changes at once would write one file.
      keeping = keeping
        .then(() => keep(lastGoodFile, text))
        .catch((error: Error) => log.warn({ err: error, file: lastGoodFile }, 'the policy cannot be kept for a restart'));
    }
  }

  /** The shadow has no last good one: a next policy that is not good is none. */
  function takeNext(text: string | undefined): void {
    const news = text === undefined ? undefined : hashOf(text);
    if (news === nextHash) return;
    nextHash = news;
    const result = text === undefined ? undefined : compileText(text);
    next = result?.kind === 'policy' ? result.policy : undefined;
    if (result?.kind === 'rejected') log.error({ hash: news, problems: describe(result.problems) }, 'the next policy is rejected');
    else log.info({ hash: news }, next === undefined ? 'there is no next policy any more' : 'the next policy is evaluated in the shadow');
  }

  /** One Event a document and outcome, whichever replica comes first. */
  function report(
    { metadata }: V1ConfigMap,
    { reason, type, hash: of, message }: { reason: string; type: string; hash: string; message: string },
  ): void {
    const now = new Date();
    const involvedObject = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      namespace,
      name: configMapName,
      ...(metadata?.uid === undefined ? {} : { uid: metadata.uid }),
    };
    const body = {
      metadata: { name: `${configMapName}.${reason.toLowerCase()}.${of}`, namespace },
      involvedObject,
      reason,
      type,
      message: message.slice(0, 1_000),
      source: { component: 'kura-authz' },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    core.createNamespacedEvent({ namespace, body }).catch((error: unknown) => {
      if (!(error instanceof ApiException && error.code === 409))
        log.warn({ reason: (error as Error).message.split('\n', 1)[0] }, 'the Event cannot be written');
    });
  }
}

type CompiledText =
  | (Extract<CompiledPolicy, { kind: 'policy' }> & { readonly warnings: readonly Problem[] })
  | Extract<CompiledPolicy, { kind: 'rejected' }>;

function compileText(text: string): CompiledText {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'rejected') return parsed;
  const compiled = compilePolicy(parsed.policy);
  return compiled.kind === 'rejected' ? compiled : { ...compiled, warnings: parsed.warnings };
}

function describe(problems: readonly Problem[]): string[] {
  const shown = problems.slice(0, shownProblems).map(({ line, column, message }) => `line ${line}, column ${column}: ${message}`);
  return problems.length > shownProblems ? [...shown, `and ${problems.length - shownProblems} more`] : shown;
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

async function keep(file: string, text: string): Promise<void> {
  await writeFile(`${file}.part`, text);
  await rename(`${file}.part`, file);
}
