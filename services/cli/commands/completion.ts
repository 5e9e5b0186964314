/** `kura completion`: a script with the commands and options for a shell. */
import { Argument, type Command } from 'commander';
import { type CommandContext, exitStatuses, type RunAction } from './command-context.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

export function addCompletionCommand(program: Command, { terminal }: CommandContext, run: RunAction): void {
  program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>').choices(shells))
    .addHelpText(
      'after',
      `
bash: echo 'source <(kura completion bash)' >> ~/.bashrc
zsh:  echo 'source <(kura completion zsh)' >> ~/.zshrc
fish: kura completion fish > ~/.config/fish/completions/kura.fish`,
    )
    .action((shell: Shell) =>
      run(async () => {
        terminal.print(scripts[shell](pagesOf(program)));
        return exitStatuses.success;
      }),
    );
}

interface Choice {
  readonly word: string;
  readonly description: string;
}

/** What can follow some words: the words of a command, such as `policy test`, or nothing for the program. */
interface Page {
  readonly path: string;
  readonly commands: readonly Choice[];
  readonly options: readonly (Choice & { readonly takesValue: boolean })[];
}

function pagesOf(program: Command): Page[] {
  const help = program.createHelp();
  const pagesBelow = (command: Command, path: string): Page[] => {
    const commands = help.visibleCommands(command);
    const options = help.visibleOptions(command).map((option) => ({
      word: option.long ?? option.flags,
      description: option.description,
      takesValue: option.required || option.optional,
    }));
    const choices = commands.map((each) => ({ word: each.name(), description: each.description() }));
    const below = commands.flatMap((each) => pagesBelow(each, `${path} ${each.name()}`.trim()));
    return [{ path, commands: choices, options }, ...below];
  };
  return pagesBelow(program, '');
}

const scripts: Readonly<Record<Shell, (pages: readonly Page[]) => string>> = {
  bash: (pages) => `_kura() {
  local commands= options= cur=\${COMP_WORDS[COMP_CWORD]}
  case "\${COMP_WORDS[*]:1:COMP_CWORD-1} " in
${pages
  .toReversed()
  .map(({ path, commands, options }) => `    ${pattern(path)}) commands=${words(commands)} options=${words(options)} ;;`)
  .join('\n')}
  esac
  [[ $cur == -* ]] && commands=$options
  COMPREPLY=($(compgen -W "$commands" -- "$cur"))
}
complete -o default -F _kura kura`,

  zsh: (pages) => `#compdef kura
_kura() {
  local -a commands options
  case "\${(j: :)words[2,CURRENT-1]} " in
${pages
  .toReversed()
  .map(({ path, commands, options }) => `    ${pattern(path)}) commands=(${described(commands)}) options=(${described(options)}) ;;`)
  .join('\n')}
  esac
  if [[ $PREFIX == -* ]]; then _describe option options
  elif (( $#commands )); then _describe command commands
  else _files
  fi
}
typeset -f compdef > /dev/null || { autoload -Uz compinit && compinit }
compdef _kura kura`,

  fish: (pages) =>
    pages
      .flatMap(({ path, commands, options }) => {
        const condition =
          path === '' ? 'test (count (commandline -opc)) -eq 1' : `string match -q -- ${quote(`kura ${path} *`)} (commandline -cp)`;
        const start = `complete -c kura -n ${quote(condition)}`;
        return [
          ...commands.map(({ word, description }) => `${start} -f -a ${word} -d ${quote(description)}`),
          ...options.map(
            ({ word, description, takesValue }) => `${start} -l ${word.slice(2)}${takesValue ? ' -r' : ''} -d ${quote(description)}`,
          ),
        ];
      })
      .join('\n'),
};

/** A pattern for the words before the cursor. Only the words of a command with subcommands have to be complete. */
function pattern(path: string): string {
  return path === '' ? "' '" : `${quote(`${path} `)}*`;
}

function words(choices: readonly Choice[]): string {
  return quote(choices.map(({ word }) => word).join(' '));
}

function described(choices: readonly Choice[]): string {
  return choices.map(({ word, description }) => quote(`${word}:${description.replaceAll(':', '\\:')}`)).join(' ');
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
