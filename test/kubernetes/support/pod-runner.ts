/** The life of one Pod on a Node: as a kubelet leads it, as far as our manifests ask for it. */
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { V1Container, V1LifecycleHandler, V1Pod, V1Probe } from '@kubernetes/client-node';
import { call } from '../../support/http.ts';
import { waitFor } from '../../support/wait.ts';
import type { Cluster } from '../contract/cluster.ts';
import { type Container, startContainer } from './container.ts';
import type { Network, Sandbox } from './network.ts';
import { isSidecar, portOf } from './pod-spec.ts';
import { PodStatus } from './pod-status.ts';
import { makeVolumes, type Volumes } from './volumes.ts';

interface PodRunnerOptions {
  readonly pod: V1Pod;
  readonly cluster: Cluster;
  readonly network: Network;
  /** Of the kubelet; each Pod has its own folder in it. */
  readonly directory: string;
  readonly resolvConfFile: string;
  readonly given: Readonly<Record<string, string>>;
}

const startLimitMs = 60_000;
const restartAfterMs = 500;
const pollMs = 100;

/** The root folder of a Node, for volumes of the kind hostPath. `directory` is that of the kubelet. */
export function nodeFolder(directory: string, node: string): string {
  return path.join(directory, 'nodes', node);
}

export class PodRunner {
  readonly #options: PodRunnerOptions;
  readonly #directory: string;
  readonly #containers = new Map<string, Container>();
  readonly #status: PodStatus;
  readonly #stopping = new AbortController();
  #sandbox: Sandbox | undefined;
  #volumes: Volumes | undefined;
  /** Resolves when every container has been started and has passed its startup probe. */
  readonly started: Promise<void>;

  constructor(options: PodRunnerOptions) {
    this.#options = options;
    this.#directory = path.join(options.directory, 'pods', options.pod.metadata?.uid as string);
    const { initContainers = [], containers } = this.#spec;
    const lasting = [...initContainers.filter(isSidecar), ...containers].map(({ name }) => name);
    this.#status = new PodStatus({ ...options, containers: lasting });
    this.started = this.#start();
  }

  get isReady(): boolean {
    return this.#status.isReady;
  }

  get sandbox(): Sandbox {
    if (this.#sandbox === undefined) throw new Error('the Pod has no network yet');
    return this.#sandbox;
  }

  get volumes(): Volumes {
    if (this.#volumes === undefined) throw new Error('the Pod has no volumes yet');
    return this.#volumes;
  }

  /** Throws for one that is not running. */
  container(name: string): Container {
    const container = this.#containers.get(name);
    if (container === undefined) throw new Error(`no container ${name} runs in ${this.#options.pod.metadata?.name}`);
    return container;
  }

  /** While its kubelet has no API, nobody reports how the Pod is. */
  setSilent(isSilent: boolean): void {
    this.#status.setSilent(isSilent);
  }

  /** While its Node is lost nothing reaches the Pod, and nobody reports how it is. */
  async setLost(isLost: boolean): Promise<void> {
    this.setSilent(isLost);
    await this.sandbox.setReachable(!isLost);
  }

  /** Hooks of all containers at once, then SIGTERM, sidecars last; SIGKILL when the grace is over. */
  async terminate(graceSeconds: number): Promise<void> {
    this.#stopping.abort();
    const { initContainers = [], containers } = this.#spec;
    const end = (spec: V1Container, turn: Promise<unknown>): Promise<void> => this.#end(spec, graceSeconds, turn);
    const main = Promise.all(containers.map((spec) => end(spec, Promise.resolve())));
    await Promise.all([main, ...initContainers.filter(isSidecar).map((spec) => end(spec, main))]);
    await this.#sandbox?.close();
    await this.#status.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** One container: its hook, SIGTERM when its turn has come, and SIGKILL when the grace is over. */
  async #end(spec: V1Container, graceSeconds: number, turn: Promise<unknown> = Promise.resolve()): Promise<void> {
    const container = this.#containers.get(spec.name);
    if (container === undefined || container.hasEnded) return;
    const deadline = performance.now() + graceSeconds * 1000;
    const isOver = delay(graceSeconds * 1000, undefined, { ref: false });
    // A Pod that is deleted by force meanwhile does not wait for its hooks.
    if (graceSeconds > 0) await Promise.race([this.#runHook(container, spec.lifecycle?.preStop), isOver, container.ended]);
    await Promise.race([turn, isOver]);
    container.kill(performance.now() < deadline ? 'SIGTERM' : 'SIGKILL');
    await Promise.race([container.ended, isOver.then(() => container.kill('SIGKILL'))]);
    await container.ended;
  }

  get #spec(): NonNullable<V1Pod['spec']> {
    return this.#options.pod.spec as NonNullable<V1Pod['spec']>;
  }

  async #start(): Promise<void> {
    const { pod, cluster, directory } = this.#options;
    this.#sandbox = await this.#options.network.makeSandbox();
    this.#status.setAddress(this.#sandbox.address);
    this.#volumes = await makeVolumes({
      pod,
      cluster,
      directory: path.join(this.#directory, 'volumes'),
      claims: path.join(directory, 'claims'),
      node: nodeFolder(directory, this.#spec.nodeName as string),
    });
    for (const spec of this.#spec.initContainers ?? []) await this.#run(spec);
    await Promise.all(this.#spec.containers.map((spec) => this.#run(spec)));
  }

  /** Starts a container, and again whenever it ends; resolves when it has passed its startup probe. */
  async #run(spec: V1Container): Promise<void> {
    await this.#launch(spec);
    if (!isSidecar(spec) && this.#spec.initContainers?.includes(spec)) {
      if ((await this.container(spec.name).ended) !== 0) throw new Error(`init container ${spec.name} failed`);
      return;
    }
    await this.#passes(spec, spec.startupProbe);
    void this.#watchReadiness(spec);
    void this.#watchLiveness(spec);
    void this.#keepRunning(spec);
  }

  async #launch(spec: V1Container): Promise<void> {
    const { pod, resolvConfFile, given, directory } = this.#options;
    const logs = path.join(directory, 'logs');
    await mkdir(logs, { recursive: true });
    const container = await startContainer({
      pod,
      container: spec,
      network: this.sandbox.namespace,
      volumes: this.volumes.folders,
      resolvConfFile,
      given,
      directory: path.join(this.#directory, 'containers', `${spec.name}-${performance.now()}`),
      logFile: path.join(logs, `${pod.metadata?.name}.${spec.name}.log`),
    });
    // The Pod may have begun to end meanwhile.
    if (this.#stopping.signal.aborted) container.kill('SIGKILL');
    this.#containers.set(spec.name, container);
  }

  async #keepRunning(spec: V1Container): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#containers.get(spec.name)?.ended;
      if (this.#stopping.signal.aborted) return;
      this.#status.setReady(spec.name, false);
      await delay(restartAfterMs);
      if (!this.#stopping.signal.aborted) await this.#launch(spec);
    }
  }

  /** Goes on while the Pod ends: that it still serves is what its EndpointSlice says. */
  async #watchReadiness(spec: V1Container): Promise<void> {
    const { readinessProbe: probe } = spec;
    let failures = 0;
    while (this.#containers.get(spec.name)?.hasEnded === false || !this.#stopping.signal.aborted) {
      const succeeds = probe === undefined || (await this.#probe(spec, probe));
      failures = succeeds ? 0 : failures + 1;
      if (succeeds || failures >= (probe?.failureThreshold ?? 3)) this.#status.setReady(spec.name, succeeds);
      await delay((probe?.periodSeconds ?? 10) * 1000, undefined, { ref: false });
    }
  }

  /** Ends a container that fails, within the grace of its probe, so that it starts again. Before it has started, its startup probe counts. */
  async #watchLiveness(spec: V1Container): Promise<void> {
    const { livenessProbe, startupProbe = livenessProbe } = spec;
    if (livenessProbe === undefined || startupProbe === undefined) return;
    let started = this.#containers.get(spec.name);
    let watched = started;
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      const container = this.#containers.get(spec.name);
      if (container !== watched) failures = 0;
      watched = container;
      const probe = container === started ? livenessProbe : startupProbe;
      const nextMs = container?.hasEnded === false ? (probe.periodSeconds ?? 10) * 1000 : pollMs;
      // The end of a container is noticed at once.
      await Promise.race([delay(nextMs, undefined, { ref: false }), ...(container?.hasEnded === false ? [container.ended] : [])]);
      if (container?.hasEnded !== false || this.#stopping.signal.aborted) continue;
      const succeeds = await this.#probe(spec, probe);
      failures = succeeds ? 0 : failures + 1;
      if (succeeds) started = container;
      if (failures < (probe.failureThreshold ?? 3) || this.#stopping.signal.aborted) continue;
      failures = 0;
      await this.#end(spec, probe.terminationGracePeriodSeconds ?? this.#spec.terminationGracePeriodSeconds ?? 30);
    }
  }

  async #passes(spec: V1Container, probe: V1Probe | undefined): Promise<void> {
    if (probe === undefined) return;
    const name = `${this.#options.pod.metadata?.name}'s ${spec.name} starts`;
    await waitFor(name, () => this.#stopping.signal.aborted || this.#probe(spec, probe), { withinMs: startLimitMs, everyMs: 100 });
  }

  async #probe(spec: V1Container, probe: V1Probe): Promise<boolean> {
    const url = `http://${this.sandbox.address}:${portOf(spec, probe)}`;
    const signal = AbortSignal.timeout((probe.timeoutSeconds ?? 1) * 1000);
    return await call(url, { path: probe.httpGet?.path ?? '/', signal }).then(
      ({ status }) => status >= 200 && status < 400,
      () => false,
    );
  }

  async #runHook(container: Container, hook: V1LifecycleHandler | undefined): Promise<void> {
    if (hook?.exec?.command !== undefined) await container.exec(hook.exec.command);
    if (hook?.sleep !== undefined) await delay(hook.sleep.seconds * 1000, undefined, { ref: false });
  }
}
