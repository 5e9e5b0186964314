/**
 * `npm run bench:authz [-- --quick --only=check,expiry,flood]`: compares authz, with 5,000 Pods of the fake Kubernetes API, with a bare
 * grpc-js server that returns the same bytes. CPU is that of the server process. Takes about two minutes.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CoreV1Api } from '@kubernetes/client-node';
import { connectKubernetes } from '../../services/shared/kubernetes.ts';
import { readMetric } from '../../test/support/metrics.ts';
import { type Service, startService } from '../../test/support/service.ts';
import { waitFor } from '../../test/support/wait.ts';
import { type Calls, closedLoop, connect, openLoop, requestOf } from './authz-client.ts';
import { isQuick, isWanted, makeFolder, progress, rounds, seconds } from './run.ts';
import { processSeconds, residentBytes } from './servers.ts';

const root = path.resolve(import.meta.dirname, '..', '..');
const podCount = isQuick ? 1_000 : 5_000;
const cachedTokens = 1_000;
const inFlight = 64;
const folder = makeFolder();

const api = await startService('fake-kubernetes', {
  KURA_KUBERNETES_LISTEN: '127.0.0.1:0',
  KURA_KUBERNETES_DIRECTORY: path.join(folder, 'kubernetes'),
});
const kubeconfig = path.join(folder, 'kubernetes', 'admin.kubeconfig');
const credentialFile = path.join(folder, 'keys');
await writeFile(credentialFile, randomBytes(32).toString('base64url'));
const tokens = await makeTokens();
const requests = tokens.map((token, index) => requestOf(token, `/objects/vision/imagenet/train/shard-${index}.tar`));
console.log(`${cpus()[0]?.model.trim()}, ${cpus().length} cores, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}\n`);
if (isWanted('check')) await benchCheck();
if (isWanted('expiry')) await benchExpiry();
if (isWanted('flood')) await benchFlood();
await api.stop();
process.exit(0);

/** CPU per check with cached tokens, alternating with the bare server. */
async function benchCheck(): Promise<void> {
  const authz = await startAuthz();
  const some = requests.slice(0, cachedTokens);
  const client = connect(authz.socket);
  for (const request of some) await client.check(request);
  const answer = await client.check(some[0] as Buffer);
  const bare = await startBare(answer);
  const servers = [
    { name: 'authz', pid: authz.pid, client },
    { name: 'bare grpc-js', pid: bare.child.pid as number, client: connect(bare.socket) },
  ];
  const best = new Map<string, { micros: number; calls: Calls }>();
  for (const { client } of servers) await closedLoop(client, some, { inFlight, seconds: 3 });
  for (let round = 0; round < rounds + 2; round++) {
    for (const { name, pid, client } of servers) {
      progress(`check, ${name}`);
      const before = processSeconds(pid);
      const calls = await closedLoop(client, some, { inFlight, seconds });
      const micros = ((processSeconds(pid) - before) * 1e6) / calls.count;
      if (calls.refused > 0) throw new Error(`${calls.refused} checks were not allowed`);
      if (micros < (best.get(name)?.micros ?? Number.POSITIVE_INFINITY)) best.set(name, { micros, calls });
    }
  }
  for (const { client } of servers) client.close();
  bare.child.kill();
  await authz.stop();
  const [ours, theirs] = servers.map(({ name }) => best.get(name)) as [{ micros: number; calls: Calls }, { micros: number; calls: Calls }];
  console.log(`${cachedTokens} cached tokens, ${inFlight} checks at once, a response of ${answer.length} bytes:`);
  console.log(`authz ${ours.micros.toFixed(1)} µs of CPU a check, ${describe(ours.calls)}`);
  console.log(`bare grpc-js ${theirs.micros.toFixed(1)} µs, ${describe(theirs.calls)}`);
  console.log(`ratio ${(ours.micros / theirs.micros).toFixed(2)} (bound 1.2)\n`);
}

/** All results expire within 0.4 of their lifetime while all Pods send checks. Before that, all first reviews run concurrently. */
async function benchExpiry(): Promise<void> {
  const ageSeconds = isQuick ? 10 : 60;
  const authz = await startAuthz({ KURA_AUTHZ_WATCHED_RESULT_AGE: `${ageSeconds}s` });
  const client = connect(authz.socket);
  const reviews = (): Promise<number> => authz.metric('kura_authz_reviews_total');
  let turn = 0;
  const next = (): Buffer => requests[turn++ % requests.length] as Buffer;
  progress('first reviews');
  const cpuBefore = processSeconds(authz.pid);
  const startedAt = performance.now();
  for (let index = 0; index < requests.length; index += inFlight) {
    await Promise.all(requests.slice(index, index + inFlight).map((request) => client.check(request)));
  }
  const tookSeconds = (performance.now() - startedAt) / 1000;
  const first = await reviews();
  const cpuMicros = ((processSeconds(authz.pid) - cpuBefore) * 1e6) / first;
  console.log(
    `first checks of ${podCount} Pods, ${inFlight} at once: ${tookSeconds.toFixed(1)} s, ${first} reviews, ${cpuMicros.toFixed(0)} µs of CPU each, ` +
      `${await authz.connections()} connections to the API (3 of them watches)`,
  );
  progress('before results expire');
  const calm = await openLoop(client, next, { perSecond: 1_000, seconds: 5 });
  await delay(Math.max(0, ageSeconds * 800 - (performance.now() - startedAt)));
  progress('while results expire');
  const before = await reviews();
  const busy = await openLoop(client, next, { perSecond: 1_000, seconds: ageSeconds * 0.4 });
  console.log(`1,000 checks a second of all Pods: ${describe(calm)}`);
  console.log(`  while ${(await reviews()) - before} results expire in ${ageSeconds * 0.4} s: ${describe(busy)}\n`);
  client.close();
  await authz.stop();
}

/**
 * 100,000 forged tokens a minute and 500 valid checks a second. The bare server gets the same load, as the baseline for the slowest
 * calls.
 */
async function benchFlood(): Promise<void> {
  const authz = await startAuthz();
  const some = requests.slice(0, cachedTokens);
  const client = connect(authz.socket);
  for (const request of some) await client.check(request);
  const bare = await startBare(await client.check(some[0] as Buffer));
  const reviews = await authz.metric('kura_authz_reviews_total');
  const memoryBefore = residentBytes(authz.pid, 'VmRSS');
  const forged = await benchUnderFlood('authz', { socket: authz.socket, some });
  const mebi = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  console.log(
    `${forged.count} forged tokens: ${(await authz.metric('kura_authz_reviews_total')) - reviews} TokenReviews, ${forged.count - forged.refused} allowed; ` +
      `memory ${mebi(memoryBefore)} before, ${mebi(residentBytes(authz.pid, 'VmRSS'))} after, peak ${mebi(residentBytes(authz.pid, 'VmHWM'))}`,
  );
  await benchUnderFlood('bare grpc-js', { socket: bare.socket, some });
  client.close();
  bare.child.kill();
  await authz.stop();
}

/** Prints the times of valid checks before and during the flood. Returns the results of the forged ones. */
async function benchUnderFlood(name: string, { socket, some }: { socket: string; some: readonly Buffer[] }): Promise<Calls> {
  const client = connect(socket);
  let turn = 0;
  const next = (): Buffer => some[turn++ % some.length] as Buffer;
  const good = { perSecond: 500, seconds: isQuick ? 5 : 20 };
  progress(`${name}, before the flood`);
  await openLoop(client, next, { ...good, seconds: 3 });
  const calm = await openLoop(client, next, good);
  progress(`${name}, flood`);
  const flooding = flood(socket, { perSecond: 100_000 / 60, seconds: good.seconds + 5 });
  // The flooder first uses a whole core to compile, which must not count against the server.
  await openLoop(client, next, { ...good, seconds: 4 });
  const busy = await openLoop(client, next, good);
  const forged = await flooding;
  client.close();
  const ratio = (busy.p99Ms / calm.p99Ms).toFixed(1);
  console.log(`${name}, 500 good checks a second: ${describe(calm)}`);
  console.log(`  beside ${Math.round(forged.perSecond * 60)} others a minute: ${describe(busy)}; p99 ratio ${ratio} (bound 2)`);
  return forged;
}

/** Runs in a separate process, so that its client does not delay the valid checks. */
async function flood(socket: string, { perSecond, seconds }: { perSecond: number; seconds: number }): Promise<Calls> {
  const words = [path.join(root, 'scripts', 'bench', 'authz-flood.ts'), socket, tokens[0] as string, String(perSecond), String(seconds)];
  const { stdout } = await promisify(execFile)(process.execPath, words);
  return JSON.parse(stdout) as Calls;
}

function describe({ perSecond, refused, p50Ms, p99Ms, worstMs }: Calls): string {
  const failed = refused === 0 ? '' : `, ${refused} not allowed`;
  return `${perSecond.toFixed(0)}/s, p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, worst ${worstMs.toFixed(1)} ms${failed}`;
}

/** Creates `podCount` running Pods with a token each, and the default policy. */
async function makeTokens(): Promise<string[]> {
  const client = connectKubernetes({ kubeconfig });
  const core = client.api(CoreV1Api);
  for (const name of ['kura-system', 'vision']) await core.createNamespace({ body: { metadata: { name } } });
  await core.createNamespacedServiceAccount({ namespace: 'vision', body: { metadata: { name: 'trainer' } } });
  const document = await readFile(path.join(root, 'k8s', 'base', 'policy.yaml'), 'utf8');
  await core.createNamespacedConfigMap({
    namespace: 'kura-system',
    body: { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': document } },
  });
  const made: string[] = [];
  const makeOne = async (index: number): Promise<void> => {
    const name = `pod-${index}`;
    const spec = { serviceAccountName: 'trainer', containers: [{ name: 'main', image: 'none' }] };
    const pod = await core.createNamespacedPod({ namespace: 'vision', body: { metadata: { name }, spec } });
    const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name, uid: pod.metadata?.uid as string };
    const body = { spec: { audiences: ['kura'], expirationSeconds: 3_600, boundObjectRef } };
    const { status } = await core.createNamespacedServiceAccountToken({ namespace: 'vision', name: 'trainer', body });
    made[index] = status?.token as string;
  };
  for (let index = 0; index < podCount; index += 50) {
    if (index % 500 === 0) progress(`${index} of ${podCount} Pods`);
    await Promise.all(Array.from({ length: 50 }, (_, offset) => makeOne(index + offset)));
  }
  await client.close();
  return made;
}

interface Authz {
  readonly socket: string;
  readonly pid: number;
  metric(name: string): Promise<number>;
  /** Open connections to the API, including watches. */
  connections(): Promise<number>;
  stop(): Promise<unknown>;
}

async function startAuthz(environment: Readonly<Record<string, string>> = {}): Promise<Authz> {
  const socket = newSocket();
  const service: Service = await startService('authz', {
    KURA_AUTHZ_LISTEN: `unix:${socket}`,
    KURA_AUTHZ_METRICS_LISTEN: '127.0.0.1:0',
    KURA_AUTHZ_KUBECONFIG: kubeconfig,
    KURA_AUTHZ_CREDENTIAL_FILE: credentialFile,
    KURA_AUTHZ_LOG_LEVEL: 'warn',
    ...environment,
  });
  const metric = (name: string): Promise<number> => readMetric(`http://${service.listening.metrics}/metrics`, name, '');
  await waitFor(
    'authz watches',
    async () => (await metric('kura_authz_pod_watch_healthy')) === 1 && (await metric('kura_authz_policy_generation')) === 1,
  );
  // setpriv executes the service in the same process.
  const pid = service.child.pid as number;
  return {
    socket,
    pid,
    metric,
    connections: () => connectionsOf(pid, Number(api.listening.https?.split(':').at(-1))),
    stop: () => service.stop(),
  };
}

/** Each server has a separate socket, because a killed server leaves its file behind. */
function newSocket(): string {
  return path.join(folder, `${randomBytes(4).toString('hex')}.sock`);
}

async function startBare(answer: Buffer): Promise<{ child: ChildProcess; socket: string }> {
  const socket = newSocket();
  const words = [process.execPath, path.join(root, 'scripts', 'bench', 'authz-bare.ts'), socket, answer.toString('base64')];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...words], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await once(child, 'message');
  return { child, socket };
}

/** Established TCP connections of a process to a port, from /proc. */
async function connectionsOf(pid: number, port: number): Promise<number> {
  const files = await Promise.all((await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  const sockets = new Set(files.flatMap((file) => /^socket:\[(\d+)\]$/.exec(file)?.[1] ?? []));
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const lines = (await readFile('/proc/net/tcp', 'utf8')).trim().split('\n').slice(1);
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , remote, state, , , , , , inode]) => remote?.endsWith(`:${hex}`) && state === '01' && sockets.has(inode as string)).length;
}
