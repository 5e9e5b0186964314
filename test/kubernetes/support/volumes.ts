/** The volumes of a Pod as folders, made as a kubelet makes them. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { access, chmod, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { V1ConfigMap, V1Pod, V1Secret, V1Volume, V1VolumeProjection } from '@kubernetes/client-node';
import type { Cluster } from '../contract/cluster.ts';
import { canBecomeOthers } from './user.ts';

const run = promisify(execFile);
type Files = Readonly<Record<string, string | Buffer>>;
interface Item {
  readonly key: string;
  readonly path: string;
}

export interface Volumes {
  /** By the volume's name. */
  readonly folders: ReadonlyMap<string, string>;
  /** Writes ConfigMaps, Secrets and tokens anew, each volume at one moment; a kubelet does so every minute or so. */
  refresh(): Promise<void>;
}

/** `directory` is the Pod's own and goes with it; `claims` and `node`, the root folder of the Pod's Node, outlive Pods. */
export async function makeVolumes({
  pod,
  cluster,
  directory,
  claims,
  node,
}: {
  pod: V1Pod;
  cluster: Cluster;
  directory: string;
  claims: string;
  node: string;
}): Promise<Volumes> {
  const folders = new Map<string, string>();
  const group = pod.spec?.securityContext?.fsGroup;
  for (const volume of pod.spec?.volumes ?? []) {
    const claim = volume.persistentVolumeClaim?.claimName;
    const ofNode = volume.hostPath === undefined ? undefined : path.join(node, volume.hostPath.path);
    const folder = ofNode ?? (claim === undefined ? path.join(directory, volume.name) : path.join(claims, claim));
    // The kubelet creates no folder of the type Directory.
    if (volume.hostPath?.type === 'Directory') await access(folder);
    else await mkdir(folder, { recursive: true });
    folders.set(volume.name, folder);
    if (volume.emptyDir === undefined && claim === undefined) continue;
    // As fsGroup does for those that can be written: its own group, which may write, and which what is made inside inherits.
    if (group !== undefined && canBecomeOthers) await run('chgrp', [String(group), folder]);
    // Every user may write to an emptyDir.
    await chmod(folder, volume.emptyDir === undefined ? 0o2775 : 0o2777);
  }
  const refresh = async (): Promise<void> => {
    for (const volume of pod.spec?.volumes ?? []) {
      const files = await filesOf(cluster, pod, volume);
      if (files !== undefined) await publish(folders.get(volume.name) as string, files);
    }
  };
  await refresh();
  return { folders, refresh };
}

async function filesOf(cluster: Cluster, pod: V1Pod, { configMap, secret, projected }: V1Volume): Promise<Files | undefined> {
  if (configMap !== undefined) return await fromConfigMap(cluster, pod, configMap.name as string, configMap.items);
  if (secret !== undefined) return await fromSecret(cluster, pod, secret.secretName as string, secret.items);
  if (projected === undefined) return undefined;
  const parts = await Promise.all((projected.sources ?? []).map((source) => fromSource(cluster, pod, source)));
  return Object.assign({}, ...parts) as Files;
}

async function fromSource(cluster: Cluster, pod: V1Pod, source: V1VolumeProjection): Promise<Files> {
  const { configMap, secret, serviceAccountToken, downwardAPI } = source;
  if (configMap !== undefined) return await fromConfigMap(cluster, pod, configMap.name as string, configMap.items);
  if (secret !== undefined) return await fromSecret(cluster, pod, secret.name as string, secret.items, secret.optional);
  if (serviceAccountToken !== undefined) {
    const { audience, expirationSeconds = 3600, path: file } = serviceAccountToken;
    return { [file]: await requestToken(cluster, pod, { ...(audience === undefined ? {} : { audience }), expirationSeconds }) };
  }
  const namespaceFiles = (downwardAPI?.items ?? []).filter(({ fieldRef }) => fieldRef?.fieldPath === 'metadata.namespace');
  return Object.fromEntries(namespaceFiles.map((item) => [item.path, pod.metadata?.namespace as string]));
}

/** A token that is bound to the Pod, as a kubelet asks for it. */
export async function requestToken(
  cluster: Cluster,
  { metadata, spec }: V1Pod,
  { audience, expirationSeconds = 3600 }: { audience?: string; expirationSeconds?: number } = {},
): Promise<string> {
  const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: metadata?.name, uid: metadata?.uid };
  const body = { spec: { ...(audience === undefined ? {} : { audiences: [audience] }), expirationSeconds, boundObjectRef } };
  const account = `/api/v1/namespaces/${metadata?.namespace}/serviceaccounts/${spec?.serviceAccountName ?? 'default'}/token`;
  return (await cluster.ok('POST', account, { body })).status.token as string;
}

async function fromConfigMap(cluster: Cluster, pod: V1Pod, name: string, items?: readonly Item[]): Promise<Files> {
  const { data } = (await cluster.ok('GET', `/api/v1/namespaces/${pod.metadata?.namespace}/configmaps/${name}`)) as V1ConfigMap;
  return pick(data ?? {}, items);
}

async function fromSecret(cluster: Cluster, pod: V1Pod, name: string, items?: readonly Item[], isOptional = false): Promise<Files> {
  const place = `/api/v1/namespaces/${pod.metadata?.namespace}/secrets/${name}`;
  if (isOptional && (await cluster.call('GET', place)).status === 404) return {};
  const { data } = (await cluster.ok('GET', place)) as V1Secret;
  return pick(Object.fromEntries(Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')])), items);
}

function pick(data: Files, items?: readonly Item[]): Files {
  if (items === undefined) return data;
  return Object.fromEntries(
    items.map(({ key, path: file }) => {
      const value = data[key];
      if (value === undefined) throw new Error(`the volume has no key ${key}`);
      return [file, value];
    }),
  );
}

/** All files change at one moment: each is a link through `..data`, and that is what is replaced. */
async function publish(folder: string, files: Files): Promise<void> {
  const version = `..${randomUUID()}`;
  await mkdir(path.join(folder, version));
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, version, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  await symlink(version, path.join(folder, '..new'));
  await rename(path.join(folder, '..new'), path.join(folder, '..data'));
  for (const name of new Set(Object.keys(files).map((file) => file.split('/', 1)[0] as string))) {
    await rm(path.join(folder, name), { force: true });
    await symlink(path.join('..data', name), path.join(folder, name));
  }
}
