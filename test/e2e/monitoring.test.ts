/** Alerts and dashboard: every query is put to a real Prometheus that scrapes a real run. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { CoreV1Api } from '@kubernetes/client-node';
import anyTest, { type TestFn } from 'ava';
import { parse } from 'yaml';
import { freePorts } from '../../services/local/free-ports.ts';
import { readMetric } from '../support/metrics.ts';
import { findPeer } from '../support/peers.ts';
import { waitFor } from '../support/wait.ts';
import { type LocalSystem, root, startLocalSystem } from './support/system.ts';

const run = promisify(execFile);
const test = anyTest as TestFn;
const plain = path.join(root, 'k8s', 'components', 'monitoring', 'plain');
const [prometheus, promtool] = ['prometheus', 'promtool'].map((program) => findPeer(program, { debianPackage: 'prometheus' }));
let system: LocalSystem;
let server: ChildProcess;
let url: string;

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { readonly alert: string; readonly expr: string; readonly annotations: Readonly<Record<string, string>> }[];
  }[];
}
interface Dashboard {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
}

const maxObjectBytes = 1024 * 1024;
const forbidden = { as: 'vision/trainer', path: '/objects/nlp/x' };

const alerts = async () =>
  (parse(await readFile(path.join(plain, 'kura.rules.yaml'), 'utf8')) as Rules).groups.flatMap(({ rules }) => rules);

test('the runbook has an entry for each alert, and for no other', async (t) => {
  const runbook = await readFile(path.join(root, 'docs', 'operate.md'), 'utf8');
  const listed = [...runbook.matchAll(/^### (Kura\w+)$/gm)].map((match) => match[1]);
  t.deepEqual(
    listed,
    (await alerts()).map(({ alert }) => alert),
  );
});

test('each alert links its entry of the runbook', async (t) => {
  const { homepage } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')) as { homepage: string };
  for (const { alert, annotations } of await alerts()) t.is(annotations.runbook_url, `${homepage}/docs/operate.md#${alert.toLowerCase()}`);
});

test('the PrometheusRule has the same alerts, and the PodMonitor the same ports and jobs as the scrape configuration', async (t) => {
  const read = async (file: string) => parse(await readFile(path.join(plain, file), 'utf8'));
  t.deepEqual((await read('../prometheus-rule.yaml')).spec, await read('kura.rules.yaml'));
  const [job] = (await read('kura.scrape.yaml')).scrape_configs;
  const [keep, ...labels] = job.relabel_configs;
  const { podMetricsEndpoints } = (await read('../pod-monitor.yaml')).spec;
  t.deepEqual(
    podMetricsEndpoints.map(({ port }: { port: string }) => port),
    ['metrics', ...Array.from({ length: 7 }, (_, index) => `metrics-${index + 1}`), 'authz-metrics'],
  );
  // The operator sets the label pod itself.
  const expected = labels.filter(({ target_label: label }: { target_label: string }) => label !== 'pod');
  for (const { port, relabelings } of podMetricsEndpoints) {
    t.regex(port, new RegExp(`^${keep.regex}$`));
    const own = relabelings.map(({ sourceLabels, targetLabel, ...others }: Record<string, unknown>) => ({
      source_labels: sourceLabels,
      target_label: targetLabel,
      ...others,
    }));
    t.deepEqual(own, expected);
  }
});

if (prometheus !== undefined && promtool !== undefined) {
  test.serial.before(async (t) => {
    t.timeout(3 * 60_000);
    const origins = ['--origin', `vision/folder/=${path.join(root, 'envoy')}`, '--origin', 'vision/gone/=http://127.0.0.1:1/'];
    system = await startLocalSystem({ args: ['--shard-bytes', '16Mi', ...origins] });
    const policyFile = (await system.local()).policy as string;
    const policy = await readFile(policyFile, 'utf8');
    const limited = policy
      .replace(/^limits:\n.*\n/m, `limits:\n  share: 0.5\n  maxObjectBytes: ${maxObjectBytes}\n`)
      .replace(/^rules:$/m, 'overrides:\n  - namespaces: [nlp]\n    limits:\n      requestsPerSecond: 1\nrules:');
    t.not(limited, policy);
    await writeFile(policyFile, limited);
    await startPrometheus(system.stateDirectory);
    await makeTraffic();
    await makeRefusals(limited);
    await writeFile(policyFile, limited.replace('mode: enforce', 'mode: dryRun'));
    await waitFor('the policy would deny', async () => (await system.call(forbidden)).status === 404);
  });
  test.after.always(async () => {
    if (server !== undefined && server.exitCode === null) {
      server.kill('SIGKILL');
      await once(server, 'exit');
    }
    await system?.stop();
  });

  test.serial('promtool takes the rules, and each alert fires when it should and at nothing else', async (t) => {
    const { stdout } = await run(promtool, ['check', 'rules', path.join(plain, 'kura.rules.yaml')]);
    t.regex(stdout, /SUCCESS: \d+ rules found/);
    const file = path.join(root, 'test', 'monitoring', 'alerts.yaml');
    await t.notThrowsAsync(run(promtool, ['test', 'rules', file]));
    const { tests } = parse(await readFile(file, 'utf8')) as { tests: { name: string }[] };
    t.deepEqual(
      tests.map(({ name }) => name).filter((name) => name.startsWith('Kura')),
      (await alerts()).map(({ alert }) => alert),
    );
  });

  test.serial('every panel of the dashboard shows something', async (t) => {
    const dashboard = JSON.parse(await readFile(path.join(plain, 'kura.dashboard.json'), 'utf8')) as Dashboard;
    const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
    t.true(queries.length > 45);
    for (const { title, expr } of queries) {
      const query = expr.replaceAll('$__rate_interval', '15s').replaceAll('$namespace', '.*');
      await t.notThrowsAsync(waitFor(`${title}: ${query}`, async () => (await ask(query)).length > 0, { withinMs: 20_000, everyMs: 200 }));
    }
  });

  test.serial('every alert asks for series that a real run has, with their labels, and none fires in calm', async (t) => {
    for (const { alert, expr } of await alerts()) {
      for (const [selector, name, matchers = ''] of expr.matchAll(/\b((?:kura|envoy)_\w+|up)(\{[^}]*\})?/g)) {
        const series = await ask(name as string);
        t.true(series.length > 0, `${alert}: ${selector}`);
        for (const [, label = ''] of matchers.matchAll(/(\w+)=/g))
          t.true(label in (series[0]?.metric ?? {}), `${alert}: ${selector} has no ${label}`);
        // Values that only a fault brings are named here; all others have to be there.
        if (!/class="5"|decision="una(vailable|uthenticated)"|result="busy"/.test(matchers))
          t.true((await ask(selector)).length > 0, `${alert}: ${selector}`);
      }
    }
    const { data } = (await (await fetch(`${url}/api/v1/rules`)).json()) as {
      data: { groups: { rules: { state: string; name: string }[] }[] };
    };
    const rules = data.groups.flatMap((group) => group.rules);
    t.is(rules.length, (await alerts()).length);
    // The shards of the test are far too small: that one is right to wait for its hour.
    t.deepEqual(
      rules.filter(({ state, name }) => state === 'firing' && name !== 'KuraCacheTooSmall').map(({ name }) => name),
      [],
    );
  });
}

async function startPrometheus(folder: string): Promise<void> {
  const { shards, authz, eds, envoyMetricsUrl, originMetricsUrl, consoleMetricsUrl } = await system.local();
  const job = (name: string, urls: readonly string[]) => ({
    job_name: name,
    static_configs: [{ targets: urls.map((each) => new URL(each).host) }],
  });
  const config = {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [path.join(plain, 'kura.rules.yaml')],
    scrape_configs: [
      job(
        'kura-cache',
        shards.map(({ metricsUrl }) => metricsUrl),
      ),
      job('kura-authz', [authz.metricsUrl]),
      job('kura-eds', [eds.metricsUrl]),
      job('kura-envoy', [envoyMetricsUrl]),
      job('kura-origin', [originMetricsUrl as string]),
      job('kura-console', [consoleMetricsUrl]),
    ],
  };
  const file = path.join(folder, 'prometheus.yml');
  await writeFile(file, JSON.stringify(config));
  const [port] = await freePorts(1);
  url = `http://127.0.0.1:${port}`;
  const args = [`--config.file=${file}`, `--storage.tsdb.path=${path.join(folder, 'data')}`, `--web.listen-address=127.0.0.1:${port}`];
  server = spawn('setpriv', ['--pdeathsig', 'KILL', '--', prometheus as string, ...args, '--log.level=error'], { stdio: 'inherit' });
  await waitFor('Prometheus has scraped all', async () => (await ask('up == 1')).length === 9);
}

async function ask(query: string): Promise<{ metric: Record<string, string> }[]> {
  const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(query)}`);
  const answer = (await response.json()) as { status: string; error?: string; data: { result: { metric: Record<string, string> }[] } };
  if (answer.status !== 'success') throw new Error(`${query}: ${answer.error}`);
  return answer.data.result;
}

/** One request for each panel of refusals, and a next policy that denies everything. */
async function makeRefusals(policy: string): Promise<void> {
  const own = { as: 'vision/trainer', path: '/objects/vision/own' };
  const forged = 'e30.e30.x';
  const large = { ...own, method: 'PUT', headers: { 'content-length': maxObjectBytes + 1 }, expect: true };
  await waitFor('413', async () => (await system.call(large)).status === 413);
  await waitFor('403', async () => (await system.call(forbidden)).status === 403);
  await waitFor('401', async () => (await system.call({ path: own.path, token: forged })).status === 401);
  await waitFor('429', async () => (await system.call({ as: 'nlp/trainer', path: '/objects/nlp/x' })).status === 429);
  const next = `${policy.slice(0, policy.indexOf('overrides:'))}rules: []\n`;
  const body = { metadata: { name: 'kura-policy' }, data: { 'policy.yaml': policy, 'policy.next.yaml': next } };
  await system.kubernetes.api(CoreV1Api).replaceNamespacedConfigMap({ namespace: 'kura-system', name: 'kura-policy', body });
  const { metricsUrl } = (await system.local()).authz;
  await waitFor('a difference of the next policy', async () => {
    await system.call(own);
    return (await readMetric(metricsUrl, 'kura_authz_shadow_differences_total')) > 0;
  });
}

/** Enough that shards evict, and a miss that each origin is asked for. */
async function makeTraffic(): Promise<void> {
  for (const key of ['folder/grants.lua', 'gone/x']) await system.call({ as: 'vision/trainer', path: `/through/vision/${key}` });
  const body = Buffer.alloc(300_000, 'kura');
  for (let index = 0; index < 300; index += 1) {
    const request = { as: 'vision/trainer', path: `/objects/vision/set/${index}` };
    await system.call(request);
    await system.call({ ...request, method: 'PUT', body, headers: { 'content-length': body.length } });
    await system.call(request);
  }
}
