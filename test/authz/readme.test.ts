import test from 'ava';
import { Registry } from 'prom-client';
import { settings } from '../../services/authz/config.ts';
import { Metrics } from '../../services/authz/metrics.ts';
import { problems } from '../../services/authz/problems.ts';
import { settingName } from '../../services/shared/environment.ts';
import { readReadme, tableRows } from '../support/readme.ts';

const readme = readReadme('services/authz');

test('the README lists every setting with its default, and no other', (t) => {
  const known = Object.entries(settings).map(([field, { fallback }]) => [settingName('KURA_AUTHZ_', field), fallback ?? '–']);
  t.deepEqual(
    tableRows(readme, /^KURA_AUTHZ_/)
      .map((cells) => cells.slice(0, 2))
      .sort(),
    known.sort(),
  );
});

test('the README lists every problem code with its status, and no other', (t) => {
  const rows = Object.values(problems);
  const known = rows.map(({ code, status }) => `${code} ${status}`);
  t.is(new Set(known).size, rows.length, 'each kind of denial has a code of its own');
  t.is(new Set(rows.map(({ code }) => code)).size, rows.length - 1, 'only no-folders has two statuses');
  const listed = tableRows(readme, /^[a-z-]+$/).flatMap(([code, statuses = '']) =>
    /^[\d, ]+$/.test(statuses) ? statuses.split(', ').map((status) => `${code} ${status}`) : [],
  );
  t.deepEqual(listed.sort(), known.sort());
});

test('the README lists every metric, and no other', (t) => {
  const registry = new Registry();
  new Metrics(registry, {
    reviewsInFlight: () => 0,
    rememberedTokens: () => 0,
    isPodWatchHealthy: () => true,
    policy: { hash: undefined, accepted: 0, rejected: 0, isWatching: true },
  });
  t.deepEqual(
    tableRows(readme, /^kura_authz_/)
      .map(([name]) => name?.replace(/\{.*/, ''))
      .sort(),
    registry
      .getMetricsAsArray()
      .map(({ name }) => name)
      .sort(),
  );
});
