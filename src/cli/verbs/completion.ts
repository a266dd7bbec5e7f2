/** `basalt completion SHELL` */
import type { Argv, Options } from 'yargs';
import { nearest } from '../../config/nearest.ts';
import { bashCompletion } from '../completion/bash.ts';
import { fishCompletion } from '../completion/fish.ts';
import { type CommandWords, type Shell, SHELLS } from '../completion/words.ts';
import { zshCompletion } from '../completion/zsh.ts';
import { UsageError, type VerbParts } from '../context.ts';
import { JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';

export const completionFlags = { json: JSON_FLAG } as const satisfies Record<string, Options>;

const SCRIPTS: Readonly<Record<Shell, (words: CommandWords) => string>> = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };

function shellOf(text: string): Shell {
  const shell = SHELLS.find((candidate) => candidate === text);
  if (shell !== undefined) return shell;
  throw new UsageError(`shell "${text}" is none of ${SHELLS.join(', ')}; did you mean ${nearest(text, SHELLS)}?`, { shell: text });
}

export function addCompletion(program: Argv, { context, words }: VerbParts): Argv {
  return program.command(
    'completion <shell>',
    'print what makes a shell complete verbs, flags and names of volumes',
    (verb) =>
      verb
        .positional('shell', { type: 'string', demandOption: true, coerce: shellOf, describe: `one of ${SHELLS.join(', ')}` })
        .options(completionFlags)
        .example('$0 completion bash > ~/.local/share/bash-completion/completions/basalt', 'for new shells')
        .example('source <($0 completion zsh)', 'for this one; for all, as _basalt in a folder of $fpath')
        .example('$0 completion fish > ~/.config/fish/completions/basalt.fish', 'for fish'),
    async (parsed) => {
      const script = SCRIPTS[parsed.shell](await words());
      context.terminal.out(parsed.json ? formatJson({ shell: parsed.shell, script }) : script);
    },
  );
}
