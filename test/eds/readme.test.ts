import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { settings } from '../../services/eds/config.ts';
import { settingName } from '../../services/shared/environment.ts';
import { startTestServer } from './support/server.ts';

const readme = readFileSync(path.resolve(import.meta.dirname, '../../services/eds/README.md'), 'utf8');

test('the README lists every setting with its default, and no other', (t) => {
  const names = Object.keys(settings).map((field) => settingName('KURA_EDS_', field));
  for (const [field, { fallback }] of Object.entries(settings)) {
    t.true(readme.includes(`| \`${settingName('KURA_EDS_', field)}\` | ${fallback === undefined ? 'none' : `\`${fallback}\``} |`), field);
  }
  const listed = [...readme.matchAll(/^\| `(KURA_EDS_\w+)`/gm)].map((match) => match[1]);
  t.deepEqual(listed.sort(), names.sort());
});

test('the README lists every metric, and no other', async (t) => {
  const { registry } = await startTestServer(t, { initial: [] });
  const served = registry.getMetricsAsArray().map(({ name }) => name);
  const listed = [...readme.matchAll(/`(kura_eds_\w+)/g)].map((match) => match[1] as string);
  t.deepEqual([...new Set(listed)].sort(), served.sort());
});
