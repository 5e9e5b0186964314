/** The dashboard, without Grafana: its form, by Grafana's published types, and its layout. test/e2e/monitoring.test.ts runs its queries. */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Dashboard, Panel, RowPanel } from '@grafana/schema';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../support/service.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..', '..');
const read = (...name: string[]) => readFile(path.join(root, ...name), 'utf8');
const dashboard = JSON.parse(await read('k8s', 'components', 'monitoring', 'plain', 'kura.dashboard.json')) as Dashboard;
const panels = (dashboard.panels ?? []) as (Panel | RowPanel)[];
const isRow = (panel: Panel | RowPanel): panel is RowPanel => panel.type === 'row';

/** Resolves with the complaints of the compiler about the fields and values of a dashboard. */
async function complaints(t: ExecutionContext, { panels: all = [], ...others }: Dashboard): Promise<string> {
  const folder = await temporaryFolder(t);
  // A literal for each panel: the compiler reports an unknown field only in a literal of one type.
  const literals = all.map(
    (panel, at) => `export const panel${at}: ${panel.type === 'row' ? 'RowPanel' : 'Panel'} = ${JSON.stringify(panel)};`,
  );
  const source = [
    "import type { Dashboard, Panel, RowPanel } from '@grafana/schema';",
    `export const dashboard: Dashboard = ${JSON.stringify(others)};`,
    ...literals,
  ];
  await writeFile(path.join(folder, 'dashboard.ts'), source.join('\n'));
  const paths = { '@grafana/schema': [path.join(root, 'node_modules', '@grafana', 'schema', 'dist', 'types', 'index.d.ts')] };
  const compilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: 'esnext',
    moduleResolution: 'bundler',
    types: [],
    paths,
  };
  await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['dashboard.ts'] }));
  const tsc = path.join(root, 'node_modules', '.bin', 'tsc');
  return run(tsc, ['-p', folder]).then(
    () => '',
    ({ stdout, message }: { stdout?: string; message: string }) => stdout || message,
  );
}

test('the dashboard has the fields and the values of Grafana’s schema', async (t) => {
  t.is(await complaints(t, dashboard), '');
  const [first, ...rest] = panels as [Panel, ...Panel[]];
  const wrong = { ...dashboard, panels: [{ ...first, gridpos: first.gridPos }, ...rest] } as unknown as Dashboard;
  t.regex(await complaints(t, wrong), /gridpos.* does not exist/);
  t.regex(await complaints(t, { ...dashboard, templating: { list: [{ name: 'x', type: 'querry' as 'query' }] } }), /querry/);
});

test('each panel has an id, a unit, a data source and a legend, and no two overlap', (t) => {
  t.is(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Map<string, string>();
  for (const panel of panels) {
    const { title = '', gridPos } = panel as Panel;
    if (gridPos === undefined) return t.fail(`${title} has no place`);
    t.true(gridPos.x + gridPos.w <= 24, title);
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
        t.is(taken.get(`${x},${y}`), undefined, `${title} overlaps`);
        taken.set(`${x},${y}`, title);
      }
    if (isRow(panel)) continue;
    t.truthy(panel.fieldConfig?.defaults.unit, title);
    t.is(panel.datasource?.uid, `$\{datasource}`, title);
    for (const { expr, legendFormat } of panel.targets ?? []) {
      t.truthy(legendFormat, title);
      // Envoy itself is a "namespace" to no query: only series with this label can be selected by it.
      t.is(/\$namespace/.test(String(expr)), /namespace/.test(String(expr)) && !String(expr).includes('(unknown)'), title);
    }
  }
});

test('each link opens a heading of the documents, and each one of an alert that exists', async (t) => {
  const { homepage } = JSON.parse(await read('package.json')) as { homepage: string };
  const links = [...(dashboard.links ?? []), ...panels.flatMap((panel) => (panel as Panel).links ?? [])];
  t.true(links.length > 20);
  for (const { title, url = '' } of links) {
    if (url.startsWith('/alerting/')) continue;
    t.true(url.startsWith(`${homepage}/docs/`), url);
    const [page = '', heading] = url.slice(homepage.length + 1).split('#');
    const headings = [...(await read(page)).matchAll(/^#+ (.+)$/gm)].map(([, text = '']) =>
      text
        .toLowerCase()
        .replace(/[^\w\s-]/g, '')
        .replace(/\s/g, '-'),
    );
    t.true(headings.includes(heading as string), url);
    if (title.startsWith('Kura')) t.is(heading, title.toLowerCase());
  }
});
