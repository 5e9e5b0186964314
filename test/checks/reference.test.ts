import test from 'ava';
import { Counter, Registry } from 'prom-client';
import { ReferenceTables } from '../../scripts/reference-tables.ts';

test('a setting, a metric and a problem code without a description are named', async (t) => {
  const tables = new ReferenceTables();
  const registry = new Registry();
  new Counter({ name: 'kura_silent_total', help: ' ', registers: [registry] });
  new Counter({ name: 'kura_good_total', help: 'Described.', labelNames: ['kind'], registers: [registry] });
  tables.settings('KURA_X_', {
    maxBytes: { doc: '', fallback: '1', optional: false },
    name: { doc: 'Described.', fallback: undefined, optional: true },
  });
  t.regex(await tables.metrics(registry), /\| `kura_good_total` \| counter \| `kind` \| Described\. \|/);
  tables.problems([
    { code: 'bad-x', status: 400, detail: '' },
    { code: 'good', status: 404, detail: 'Described.' },
  ]);
  t.deepEqual(tables.missing, ['KURA_X_MAX_BYTES', 'kura_silent_total', 'bad-x']);
});

test('a default is shown, or that there is none, or that a setting is required', (t) => {
  const setting = { doc: 'Described.', fallback: undefined };
  const table = new ReferenceTables().settings('KURA_', {
    a: { ...setting, fallback: '5s', optional: false },
    b: { ...setting, optional: true },
    c: { ...setting, optional: false },
  });
  t.deepEqual(table.split('\n').slice(2), [
    '| `KURA_A` | `5s` | Described. |',
    '| `KURA_B` | none | Described. |',
    '| `KURA_C` | required | Described. |',
  ]);
});
