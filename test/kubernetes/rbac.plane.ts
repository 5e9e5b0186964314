/** What our ServiceAccounts may do is the least that works: without any one of their verbs something that is named here fails. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { V1ClusterRole } from '@kubernetes/client-node';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { launchAuthz } from '../authz/support/authz.ts';
import { startService } from '../support/service.ts';
import { waitFor } from '../support/wait.ts';
import { type Cluster, openCluster } from './contract/cluster.ts';
import { type Plane, startPlane } from './plane/plane.ts';
import { createKubectl, type Kubectl } from './support/kubectl.ts';
import { writeKustomization } from './support/kustomization.ts';
import { makeWorkload } from './support/workload.ts';

const test = anyTest as TestFn;
const system = 'kura-system';
let folder: string;
let plane: Plane;
let cluster: Cluster;
let kubectl: Kubectl;
let roles: V1ClusterRole[];
let workloadToken: string;

/** A process of ours as its ServiceAccount, seen from outside. */
interface Seen {
  readonly output: () => string;
  readonly readyz: () => Promise<number>;
  /** Of authz: its answer to a good token. */
  readonly check?: () => Promise<number>;
}

interface Right {
  readonly account: 'kura-envoy' | 'kura-eds' | 'kura-origin' | 'kura-console';
  readonly resource: string;
  readonly verb: string;
  /** What is the matter without it. */
  readonly without: string;
  readonly shows: (seen: Seen) => boolean | Promise<boolean>;
}

const says =
  (pattern: RegExp) =>
  ({ output }: Seen): boolean =>
    pattern.test(output());
const isNotReady = async ({ readyz, output }: Seen): Promise<boolean> => /returned 403/.test(output()) && (await readyz()) === 503;
const lostWatch = (resource: string) => says(new RegExp(`"path":"[^"]*/${resource}","reason":"the watch returned 403"`));
const lostList = (resource: string) => says(new RegExp(`"path":"[^"]*/${resource}","reason":"the list returned 403"`));

const rights: readonly Right[] = [
  {
    account: 'kura-envoy',
    resource: 'tokenreviews',
    verb: 'create',
    without: 'nobody is known, and a good token gets 503',
    shows: async ({ check }) => (await check?.()) === 503,
  },
  { account: 'kura-envoy', resource: 'pods', verb: 'list', without: 'no Pod is known to run', shows: lostList('pods') },
  { account: 'kura-envoy', resource: 'pods', verb: 'watch', without: 'the end of a Pod is not told', shows: lostWatch('pods') },
  { account: 'kura-envoy', resource: 'namespaces', verb: 'list', without: 'no label is known', shows: lostList('namespaces') },
  { account: 'kura-envoy', resource: 'namespaces', verb: 'watch', without: 'a changed label is not told', shows: lostWatch('namespaces') },
  { account: 'kura-envoy', resource: 'configmaps', verb: 'list', without: 'authz is not ready, as no policy is known', shows: isNotReady },
  { account: 'kura-envoy', resource: 'configmaps', verb: 'watch', without: 'a changed policy is not told', shows: lostWatch('configmaps') },
  {
    account: 'kura-envoy',
    resource: 'events',
    verb: 'create',
    without: 'no Event tells of a policy',
    shows: says(/cannot write the Event/),
  },
  {
    account: 'kura-envoy',
    resource: 'events',
    verb: 'patch',
    without: 'no Event tells that a policy is in force again',
    shows: says(/cannot write the Event/),
  },
  { account: 'kura-eds', resource: 'endpointslices', verb: 'list', without: 'eds is not ready', shows: isNotReady },
  {
    account: 'kura-eds',
    resource: 'endpointslices',
    verb: 'watch',
    without: 'a changed shard is not told',
    shows: lostWatch('endpointslices'),
  },
  { account: 'kura-eds', resource: 'pods', verb: 'list', without: 'no weight is known', shows: lostList('pods') },
  { account: 'kura-eds', resource: 'pods', verb: 'watch', without: 'a changed weight is not told', shows: lostWatch('pods') },
  { account: 'kura-origin', resource: 'configmaps', verb: 'list', without: 'origin is not ready', shows: isNotReady },
  {
    account: 'kura-origin',
    resource: 'configmaps',
    verb: 'watch',
    without: 'a changed origin is not known',
    shows: lostWatch('configmaps'),
  },
  {
    account: 'kura-origin',
    resource: 'events',
    verb: 'create',
    without: 'no Event reports a document',
    shows: says(/cannot write the Event/),
  },
  {
    account: 'kura-origin',
    resource: 'events',
    verb: 'patch',
    without: 'no Event reports a document again',
    shows: says(/cannot write the Event/),
  },
  { account: 'kura-console', resource: 'endpointslices', verb: 'list', without: 'the console is not ready', shows: isNotReady },
  {
    account: 'kura-console',
    resource: 'endpointslices',
    verb: 'watch',
    without: 'the page does not show a new shard',
    shows: lostWatch('endpointslices'),
  },
  { account: 'kura-console', resource: 'pods', verb: 'list', without: 'the console is not ready', shows: isNotReady },
  { account: 'kura-console', resource: 'pods', verb: 'watch', without: 'the page does not show a new Envoy', shows: lostWatch('pods') },
];

test.before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'kura-plane-'));
  plane = await startPlane({ directory: path.join(folder, 'plane') });
  cluster = await openCluster({ ...plane, bookmarkWithinMs: 90_000, restart: () => Promise.resolve() });
  kubectl = createKubectl({ kubeconfig: plane.kubeconfig, cache: path.join(folder, 'kubectl') });
  await kubectl.ok('create', 'namespace', system);
  const wanted = ['ServiceAccount', 'ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding'];
  const overlay = await writeKustomization(path.join(folder, 'overlay'), { components: ['origin', 'console'], namespace: system });
  const documents = parseAllDocuments(await kubectl.ok('kustomize', overlay)).map((document) => document.toJS() as V1ClusterRole);
  const own = documents.filter(({ kind = '', metadata }) => wanted.includes(kind) || metadata?.name === 'kura-origins');
  const file = path.join(folder, 'own.yaml');
  await writeFile(file, own.map((document) => stringify(document, { aliasDuplicateObjects: false })).join('---\n'));
  await kubectl.ok('apply', '-f', file);
  await kubectl.ok('-n', system, 'create', 'configmap', 'kura-policy', '--from-file=policy.yaml=k8s/base/policy.yaml');
  roles = own.filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role');
  ({ token: workloadToken } = await makeWorkload(cluster));
});
test.after.always(async () => {
  await cluster?.close();
  await plane?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** The administrator's kubeconfig with the ServiceAccount's token instead. */
async function kubeconfigOf(account: string): Promise<string> {
  const config = parse(await readFile(plane.kubeconfig, 'utf8')) as { users: [{ user: { token: string } }] };
  config.users[0].user.token = (await kubectl.ok('-n', system, 'create', 'token', account)).trim();
  const file = path.join(folder, `${account}.kubeconfig`);
  await writeFile(file, stringify(config), { mode: 0o600 });
  return file;
}

async function start(t: ExecutionContext, account: Right['account']): Promise<Seen> {
  const kubeconfig = await kubeconfigOf(account);
  const readyz = (address: string) => (): Promise<number> => fetch(`http://${address}/readyz`).then(({ status }) => status);
  if (account === 'kura-envoy') {
    const { service, check } = await launchAuthz(t, kubeconfig);
    return { output: service.output, readyz: readyz(service.listening.metrics as string), check: () => check(workloadToken) };
  }
  if (account === 'kura-origin') {
    const service = await startService('origin', {
      KURA_ORIGIN_LISTEN: '127.0.0.1:0',
      KURA_ORIGIN_METRICS_LISTEN: '127.0.0.1:0',
      KURA_ORIGIN_KUBECONFIG: kubeconfig,
      KURA_ORIGIN_CREDENTIAL_FILE: 'off',
    });
    t.teardown(() => service.stop('SIGKILL'));
    return { output: service.output, readyz: readyz(service.listening.metrics as string) };
  }
  if (account === 'kura-console') {
    const console = await startService('console', {
      KURA_CONSOLE_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_DATASETS_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_METRICS_LISTEN: '127.0.0.1:0',
      KURA_CONSOLE_CREDENTIAL_FILE: 'off',
      KURA_CONSOLE_KUBECONFIG: kubeconfig,
    });
    t.teardown(() => console.stop('SIGKILL'));
    return { output: console.output, readyz: readyz(console.listening.metrics as string) };
  }
  const service = await startService('eds', {
    KURA_EDS_LISTEN: '127.0.0.1:0',
    KURA_EDS_METRICS_LISTEN: '127.0.0.1:0',
    KURA_EDS_KUBECONFIG: kubeconfig,
    // There is no shard here. eds would not answer with an empty first list at once.
    KURA_EDS_COLLAPSE_PERCENT: '100',
  });
  t.teardown(() => service.stop('SIGKILL'));
  return { output: service.output, readyz: readyz(service.listening.metrics as string) };
}

async function put({ kind, metadata, ...role }: V1ClusterRole): Promise<void> {
  const place = kind === 'Role' ? `namespaces/${system}/roles` : 'clusterroles';
  const { name } = metadata ?? {};
  await cluster.ok('PUT', `/apis/rbac.authorization.k8s.io/v1/${place}/${name}`, { body: { ...role, kind, metadata: { name } } });
}

/** Whose rules an account has: its name is what its roles are called by, but for authz, which runs as kura-envoy. */
function isOf(account: Right['account'], { metadata }: V1ClusterRole): boolean {
  return metadata?.name === (account === 'kura-envoy' ? 'kura-authz' : account);
}

function without(role: V1ClusterRole, { resource, verb }: Right): V1ClusterRole {
  const rules = (role.rules ?? []).flatMap((rule) => {
    if (!rule.resources?.includes(resource)) return [rule];
    const others = { ...rule, resources: rule.resources.filter((each) => each !== resource) };
    const less = { ...rule, resources: [resource], verbs: rule.verbs.filter((each) => each !== verb) };
    return [others, less].filter(({ resources, verbs }) => resources.length > 0 && verbs.length > 0);
  });
  return { ...role, rules };
}

test.serial('every verb of our roles has a test here', (t) => {
  const granted = roles.flatMap((role) =>
    (role.rules ?? []).flatMap(({ resources = [], verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${role.metadata?.name} ${verb} ${resource}`)),
    ),
  );
  const tested = rights.map(({ account, resource, verb }) => `${account === 'kura-envoy' ? 'kura-authz' : account} ${verb} ${resource}`);
  t.deepEqual([...granted].sort(), [...tested].sort());
});

for (const account of ['kura-envoy', 'kura-eds', 'kura-origin', 'kura-console'] as const) {
  test.serial(`with all of its rights nothing is the matter with ${account}`, async (t) => {
    const seen = await start(t, account);
    await waitFor('it is ready', async () => (await seen.readyz()) === 200).catch((e) => t.log(seen.output(), e));
    if (seen.check !== undefined) t.is(await seen.check(), 200);
    for (const right of rights.filter((each) => each.account === account)) t.false(await right.shows(seen), right.without);
    // The test of the verb patch needs an Event that exists.
    if (account === 'kura-envoy' || account === 'kura-origin') {
      const event = `event/${account === 'kura-origin' ? 'kura-origins' : 'kura-policy'}.`;
      await waitFor('its Event', async () => (await kubectl.ok('-n', system, 'get', 'events', '-o', 'name')).includes(event));
    }
    t.notRegex(seen.output(), /"level":"(warn|error)"/);
  });
}

for (const right of rights) {
  const { account, resource, verb } = right;
  test.serial(`${account} needs to ${verb} ${resource}: without it ${right.without}`, async (t) => {
    const [role] = roles.filter((each) => isOf(account, each) && each.rules?.some(({ resources }) => resources?.includes(resource)));
    t.truthy(role);
    await put(without(role as V1ClusterRole, right));
    t.teardown(() => put(role as V1ClusterRole));
    const configMap = account === 'kura-origin' ? 'kura-origins' : 'kura-policy';
    const name = resource === 'configmaps' ? [`${resource}/${configMap}`] : [resource];
    const scope = role?.kind === 'Role' ? ['-n', system] : ['-A'];
    await waitFor('it may not', async () => {
      const { stdout } = await kubectl.run('auth', 'can-i', `--as=system:serviceaccount:${system}:${account}`, verb, ...name, ...scope);
      return stdout.trim() === 'no';
    });
    const seen = await start(t, account);
    t.true(await waitFor(right.without, () => right.shows(seen)));
  });
}
