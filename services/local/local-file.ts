/**
 * `.kura/local.json`: the addresses and process ids of a running local system. It is written when all parts are ready and when a pid or
 * port changes, and removed when the system stops.
 */
import { rm } from 'node:fs/promises';
import { replaceFile } from '../shared/write-file.ts';

interface LocalShard {
  /** The hash_key of the shard, such as `kura-cache-0/shard-0`. */
  readonly name: string;
  readonly url: string;
  readonly metricsUrl: string;
  readonly directory: string;
  readonly pid: number;
}

export interface LocalFile {
  /** Base URL of Envoy; objects are under `<url>/objects/`. */
  readonly url: string;
  readonly envoyAdminUrl: string;
  readonly envoyMetricsUrl: string;
  /** Gives administrator access to the fake Kubernetes API. */
  readonly kubeconfig: string;
  /** The file of ConfigMap kura-policy; null if another cluster provides the policy. */
  readonly policy: string | null;
  readonly authz: { readonly socket: string; readonly metricsUrl: string };
  /** The folder or the URL behind each prefix of keys. */
  readonly origins: readonly { readonly prefix: string; readonly source: string }[];
  /** Null without origins. */
  readonly originMetricsUrl: string | null;
  readonly eds: { readonly address: string; readonly metricsUrl: string };
  /** The status page. */
  readonly consoleUrl: string;
  readonly consoleMetricsUrl: string;
  /** Token files by `<namespace>/<ServiceAccount>`; empty if another cluster issues the tokens. */
  readonly tokens: Readonly<Record<string, string>>;
  readonly shards: readonly LocalShard[];
  readonly processes: Readonly<Record<string, number>>;
}

/** Replaces the file atomically: a reader gets the old or the new content. */
export async function writeLocalFile(file: string, content: LocalFile): Promise<void> {
  await replaceFile(file, `${JSON.stringify(content, null, 2)}\n`);
}

export async function removeLocalFile(file: string): Promise<void> {
  await rm(file, { force: true });
}
