import test from 'ava';
import { connectionLimit } from '../../../services/cache/http/connection-limit.ts';
import { createLogger } from '../../../services/shared/log.ts';

const limits = (soft: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 4096                 files\n`;

for (const [soft, openFiles, connections, warns] of [
  ['1048576', 4_096, 50_000, false],
  ['unlimited', 4_096, 50_000, false],
  ['20000', 4_096, 14_880, false],
  ['8192', 4_096, 3_072, true],
  ['1024', 4_096, 1, true],
] as const) {
  test(`with ${soft} descriptors, ${openFiles} of them for files, a shard accepts ${connections} connections`, (t) => {
    const lines: object[] = [];
    const log = createLogger({ service: 'cache', level: 'info' });
    log.warn = ((fields: object) => void lines.push(fields)) as typeof log.warn;
    t.is(connectionLimit(openFiles, log, limits(soft)), connections);
    t.is(lines.length, warns ? 1 : 0);
  });
}

test('the limits of this process are read', (t) => {
  t.true(connectionLimit(0, createLogger({ service: 'cache', level: 'silent' })) > 1);
});
