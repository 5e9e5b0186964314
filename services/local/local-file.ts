/** `.kura/local.json`: where the parts of a running local system are. Written when all is ready and whenever a pid or port changes; gone when it stops. */
import { rm } from 'node:fs/promises';
import { replaceFile } from '../shared/write-file.ts';

interface LocalShard {
  /** Its hash_key, such as `kura-cache-0/shard-0`. */
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
  /** Administrator's access to the fake Kubernetes API. */
  readonly kubeconfig: string;
  /** The file that stands for ConfigMap kura-policy; null where another cluster holds the policy. */
  readonly policy: string | null;
  readonly authz: { readonly socket: string; readonly metricsUrl: string };
  readonly eds: { readonly address: string; readonly metricsUrl: string };
  /** Token files by `<namespace>/<ServiceAccount>`; empty where another cluster issues the tokens. */
  readonly tokens: Readonly<Record<string, string>>;
  readonly shards: readonly LocalShard[];
  readonly processes: Readonly<Record<string, number>>;
}

/** Replaces the file whole: a reader sees the old or the new one. */
export async function writeLocalFile(file: string, content: LocalFile): Promise<void> {
  await replaceFile(file, `${JSON.stringify(content, null, 2)}\n`);
}

export async function removeLocalFile(file: string): Promise<void> {
  await rm(file, { force: true });
}
