/**
 * Writes what follows from the alerts in k8s/components/monitoring/plain/kura.rules.yaml: the runbook_url of each one, and the
 * PrometheusRule. Links of the dashboard to the documents get the same homepage.
 * `--check` writes nothing and fails when a committed file differs.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';

const root = path.resolve(import.meta.dirname, '..');
const component = path.join(root, 'k8s', 'components', 'monitoring');
const rulesFile = path.join(component, 'plain', 'kura.rules.yaml');
const operatorFile = path.join(component, 'prometheus-rule.yaml');
const dashboardFile = path.join(component, 'plain', 'kura.dashboard.json');
const { homepage } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { homepage: string };

const rules = withRunbooks(readFileSync(rulesFile, 'utf8'));
const prometheusRule = {
  apiVersion: 'monitoring.coreos.com/v1',
  kind: 'PrometheusRule',
  metadata: { name: 'kura' },
  spec: { groups: (parse(rules) as { groups: object[] }).groups },
};
const note = '# Generated from plain/kura.rules.yaml by `npm run generate`. Do not edit.\n';
publish(rulesFile, rules);
publish(dashboardFile, readFileSync(dashboardFile, 'utf8').replace(/"url": ".*?\/docs\//g, `"url": "${homepage}/docs/`));
publish(operatorFile, note + stringify(prometheusRule, { lineWidth: 100 }));

/** The first line of the annotations of each alert. */
function withRunbooks(text: string): string {
  return text.replace(
    /- alert: (\w+)\n(.*?)( +)annotations:\n(?: +runbook_url: [^\n]*\n)?/gs,
    (_, alert: string, between: string, indent: string) =>
      `- alert: ${alert}\n${between}${indent}annotations:\n${indent}  runbook_url: ${homepage}/docs/operate.md#${alert.toLowerCase()}\n`,
  );
}

function publish(file: string, text: string): void {
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (readFileSync(file, 'utf8') !== text) {
    console.error(`${path.relative(root, file)} is not what the alerts make: run \`npm run generate\``);
    process.exitCode = 1;
  }
}
