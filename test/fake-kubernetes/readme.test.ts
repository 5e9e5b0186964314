import test from 'ava';
import { settings } from '../../services/fake-kubernetes/config.ts';
import { settingName } from '../../services/shared/environment.ts';
import { readReadme, tableRows } from '../support/readme.ts';

test('the README lists every setting with its default and meaning, and no other', (t) => {
  const known = Object.entries(settings).map(([field, { fallback, doc }]) => [settingName('KURA_KUBERNETES_', field), fallback ?? '', doc]);
  t.deepEqual(tableRows(readReadme('services/fake-kubernetes'), /^KURA_KUBERNETES_/).sort(), known.sort());
});
