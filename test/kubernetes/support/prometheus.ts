/**
 * A real Prometheus that watches the Pods of a drill, with the operators' scrape configuration and alerts. Debian's Prometheus has no
 * service discovery by the Kubernetes API, so a list with the same labels replaces it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { V1Pod } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { freePorts } from '../../../services/local/free-ports.ts';
import { listen } from '../../../services/shared/listen.ts';
import { waitFor } from '../../support/wait.ts';

const component = path.resolve(import.meta.dirname, '..', '..', '..', 'k8s', 'components', 'monitoring', 'plain');
/** One minute of the alerts takes one second. */
const timesFaster = 60;
const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

export interface Prometheus {
  /** Resolves when the alert fires, or no longer fires. */
  alert(name: string, isFiring: boolean): Promise<void>;
  stop(): Promise<void>;
}

interface Rules {
  readonly groups: readonly { readonly rules: { expr: string; for?: string }[] }[];
}
interface ScrapeConfig {
  readonly scrape_configs: readonly { readonly kubernetes_sd_configs: unknown }[];
}

/** `pods` are those that the API lists now. Resolves when Prometheus has reached every part. */
export async function startPrometheus(program: string, pods: () => readonly V1Pod[]): Promise<Prometheus> {
  const folder = await mkdtemp(path.join(tmpdir(), 'kura-prometheus-'));
  const discovery = await listen(
    createServer((_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(pods().flatMap(targetsOf)));
    }),
    { host: '127.0.0.1', port: 0 },
  );
  const config = await writeConfig(folder, `http://${discovery.address}/`);
  const [port] = await freePorts(1);
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${path.join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`];
  const server = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, ...args, '--log.level=error'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = once(server, 'exit');
  const ask = async <T>(page: string): Promise<T> => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/${page}`, { signal: AbortSignal.timeout(5_000) });
    return ((await response.json()) as { data: T }).data;
  };
  const firing = async (): Promise<ReadonlySet<string>> => {
    const { alerts } = await ask<{ alerts: { state: string; labels: { alertname: string } }[] }>('alerts');
    return new Set(alerts.filter(({ state }) => state === 'firing').map(({ labels }) => labels.alertname));
  };
  const stop = async (): Promise<void> => {
    server.kill('SIGKILL');
    await ended;
    await discovery.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await waitFor('Prometheus has reached every part', async () => {
      if (server.exitCode !== null) throw new Error(`Prometheus ended with ${server.exitCode}`);
      const query = encodeURIComponent('count(count by (job) (up == 1))');
      const { result } = await ask<{ result: { value: [number, string] }[] }>(`query?query=${query}`);
      return result[0]?.value[1] === '4';
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    alert: async (name, isFiring) => {
      await waitFor(`${name} ${isFiring ? 'fires' : 'no longer fires'}`, async () => (await firing()).has(name) === isFiring);
    },
    stop,
  };
}

/** As the role `pod` of kubernetes_sd_configs lists a Pod: a target for each port, none before the Pod has an address. */
function targetsOf({ metadata, spec, status }: V1Pod): object[] {
  if (status?.podIP === undefined) return [];
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  return containers.flatMap(({ name, ports = [] }) =>
    ports.map((port) => ({
      targets: [`${status.podIP}:${port.containerPort}`],
      labels: {
        __meta_kubernetes_pod_name: metadata?.name,
        __meta_kubernetes_pod_node_name: spec?.nodeName,
        __meta_kubernetes_pod_container_name: name,
        __meta_kubernetes_pod_container_port_name: port.name ?? '',
      },
    })),
  );
}

/** The operators' files with faster times, and Pods from `discoveryUrl`. */
async function writeConfig(folder: string, discoveryUrl: string): Promise<string> {
  const read = async <T>(file: string): Promise<T> => parse(await readFile(path.join(component, file), 'utf8')) as T;
  const rules = await read<Rules>('kura.rules.yaml');
  for (const rule of rules.groups.flatMap((group) => group.rules)) {
    rule.expr = rule.expr.replace(/\[[^\]]+\]/g, (range) => range.replace(/\d+[smhd]/g, faster));
    if (rule.for !== undefined) rule.for = faster(rule.for);
  }
  const { scrape_configs: jobs } = await read<ScrapeConfig>('kura.scrape.yaml');
  const scrapeConfigs = jobs.map(({ kubernetes_sd_configs: _, ...job }) => ({
    ...job,
    scrape_interval: '1s',
    scrape_timeout: '1s',
    http_sd_configs: [{ url: discoveryUrl, refresh_interval: '1s' }],
  }));
  await writeFile(path.join(folder, 'rules.yaml'), JSON.stringify(rules));
  const config = { global: { evaluation_interval: '1s' }, rule_files: ['rules.yaml'], scrape_configs: scrapeConfigs };
  const file = path.join(folder, 'prometheus.yaml');
  await writeFile(file, JSON.stringify(config));
  return file;
}

function faster(duration: string): string {
  const seconds = Number.parseInt(duration, 10) * (unitSeconds[duration.at(-1) as string] as number);
  return `${(seconds * 1_000) / timesFaster}ms`;
}
