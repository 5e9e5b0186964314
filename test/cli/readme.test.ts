import test from 'ava';
import { exitStatuses } from '../../services/cli/commands/command-context.ts';
import { readReadme, tableRows } from '../support/readme.ts';
import { startKura } from './support/kura.ts';

const readme = readReadme('services/cli');

test('the README lists every command, and no other', async (t) => {
  const { run } = await startKura(t);
  const { stdout } = await run(['--help']);
  const known = [...stdout.slice(stdout.indexOf('Commands:')).matchAll(/^ {2}([a-z]+)\b/gm)].map((match) => match[1]);
  const listed = readme
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...(line.split('|')[1] ?? '').matchAll(/`([a-z]+)\b/g)].map((match) => match[1]));
  t.deepEqual([...new Set(listed)].sort(), known.filter((name) => name !== 'help').sort());
});

test('the README lists every exit status, and no other', (t) => {
  const listed = [...readme.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]));
  t.deepEqual(listed, Object.values(exitStatuses));
});

test('the README lists the variables and fields that name server, token and prefix', (t) => {
  t.deepEqual(
    tableRows(readme, /^--/).map(([flag, variable, field]) => [flag?.split(' ')[0], variable, field]),
    [
      ['--server', 'KURA_SERVER', 'server'],
      ['--token-file', 'KURA_TOKEN_FILE', 'tokenFile'],
      ['--prefix', 'KURA_PREFIX', 'prefix'],
    ],
  );
});
