import test from 'ava';
import { divideDescriptors } from '../../../services/cache/http/connection-limit.ts';
import { createLogger } from '../../../services/shared/log.ts';

const limits = (soft: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units\nMax open files            ${soft}                 4096                 files\n`;

for (const [soft, asked, openFiles, connections, warns] of [
  ['1048576', 16_384, 16_384, 50_000, false],
  ['unlimited', 16_384, 16_384, 50_000, false],
  ['20000', 16_384, 5_000, 13_976, false],
  ['20000', 100, 100, 18_876, false],
  ['6000', 16_384, 1_500, 3_476, true],
  ['1024', 16_384, 256, 1, true],
] as const) {
  test(`with ${soft} descriptors, at most ${asked} of them for files, a shard keeps ${openFiles} files and ${connections} connections`, (t) => {
    const lines: object[] = [];
    const log = createLogger({ service: 'cache', level: 'info' });
    log.warn = ((fields: object) => void lines.push(fields)) as typeof log.warn;
    t.deepEqual(divideDescriptors(asked, log, limits(soft)), { openFiles, connections });
    t.is(lines.length, warns ? 1 : 0);
  });
}

test('the limits of this process are read', (t) => {
  t.true(divideDescriptors(0, createLogger({ service: 'cache', level: 'silent' })).connections > 1);
});
