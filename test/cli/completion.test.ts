/** `--version`, and the completion of real shells. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { findPeer } from '../support/peers.ts';
import { startKura } from './support/kura.ts';

const run = promisify(execFile);
const { version } = JSON.parse(readFileSync(path.resolve(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as { version: string };

test.serial('--version prints the version of the package', async (t) => {
  const { run: kura } = await startKura(t);
  t.like(await kura(['--version']), { status: 0, stdout: `${version}\n` });
});

/** How each shell lists what it would complete after `line`, given the file with the script. */
// biome-ignore-start lint/suspicious/noTemplateCurlyInString: the variables of a shell
const shells: Readonly<Record<string, (script: string, line: string) => string[]>> = {
  bash: (script, line) => [
    '-c',
    'source "$1"; read -ra COMP_WORDS <<< "$2"; [[ $2 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _kura; printf "%s\\n" "${COMPREPLY[@]}"',
    'bash',
    script,
    line,
  ],
  // Stubs of the completion system, which works only in an interactive shell.
  zsh: (script, line) => [
    '-fc',
    'compdef() { }; _files() { print files }; _describe() { print -rl -- ${(M)${(P)2}:#$PREFIX*} }; source "$1"; words=("${(@s: :)2}"); CURRENT=$#words; PREFIX=$words[-1]; _kura',
    'zsh',
    script,
    line,
  ],
  fish: (script, line) => ['--no-config', '-c', 'source $argv[1]; complete -C $argv[2]', script, line],
};
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: the variables of a shell

for (const [shell, words] of Object.entries(shells)) {
  const program = findPeer(shell, { debianPackage: shell });
  if (program === undefined) continue;
  test.serial(`${shell} completes commands, options, and the commands of policy`, async (t) => {
    const { folder, run: kura } = await startKura(t);
    const script = path.join(folder, 'script');
    const { status, stdout } = await kura(['completion', shell]);
    t.is(status, 0);
    await writeFile(script, stdout, 'latin1');
    const complete = async (line: string): Promise<string[]> => {
      const { stdout: lines } = await run(program, words(script, line), { cwd: folder, env: { HOME: folder, PATH: process.env.PATH } });
      return lines.split('\n').flatMap((each) => each.split(/[\t:]/, 1).filter((word) => word !== ''));
    };
    t.deepEqual(await complete('kura st'), ['stat', 'status']);
    t.deepEqual(await complete('kura pre'), ['prefetch']);
    t.deepEqual(await complete('kura prefetch vision --fo'), ['--follow']);
    t.deepEqual(await complete('kura policy e'), ['explain']);
    t.deepEqual(await complete('kura warm data vision --wo'), ['--workers']);
    t.deepEqual(await complete('kura policy explain x --ver'), ['--verb']);
    t.deepEqual(await complete('kura --ver'), ['--version']);
  });
}

test.serial('an unknown shell is reported with exit status 2', async (t) => {
  const { run: kura } = await startKura(t);
  t.like(await kura(['completion', 'tcsh']), {
    status: 2,
    stderr: "error: command-argument value 'tcsh' is invalid for argument 'shell'. Allowed choices are bash, zsh, fish.\n",
  });
});
