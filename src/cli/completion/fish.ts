/** Completion for fish, which knows itself what was typed. */
import type { ArgumentWords, CommandWords, FlagWords, VerbWords } from './words.ts';

/** One word for the shell, in single quotes. */
function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", String.raw`\'`)}'`;
}

function line(condition: string, what: string, description = ''): string {
  return `complete -c basalt -n ${quote(condition)} ${what}${description === '' ? '' : ` -d ${quote(description)}`}`;
}

function flagLine(verb: string, { name, description, takesValue, values }: FlagWords): string {
  const value = !takesValue ? '' : values.length > 0 ? ` -x -a ${quote(values.join(' '))}` : ' -r -F';
  return line(`__basalt_verb ${verb}`, `-l ${name}${value}`, description);
}

function argumentLine(verb: string, place: number, words: ArgumentWords): string[] {
  const condition = `__basalt_place ${verb} ${place}`;
  if (words.kind === 'volume') return [line(condition, "-a '(__basalt_volumes)'", 'volume')];
  if (words.kind === 'words') return [line(condition, `-a ${quote(words.words.join(' '))}`)];
  return words.kind === 'file' ? [line(condition, '-F')] : [];
}

function verbLines({ name, description, arguments: places, flags, takesSettings }: VerbWords, settingFlags: readonly string[]): string[] {
  return [
    line('__basalt_place "" 0', `-a ${name}`, description),
    ...places.flatMap((words, place) => argumentLine(name, place, words)),
    ...flags.map((flag) => flagLine(name, flag)),
    ...(takesSettings ? settingFlags.map((flag) => line(`__basalt_verb ${name}; and string match -q -- "--*.*" (commandline -ct)`, `-l ${flag} -x`)) : []),
  ];
}

export function fishCompletion({ verbs, settingFlags }: CommandWords): string {
  const valued = [...new Set(verbs.flatMap(({ flags }) => flags.filter(({ takesValue }) => takesValue).map(({ name }) => `--${name}`)))];
  return `# Completion of basalt for fish: made by basalt completion fish. As ~/.config/fish/completions/basalt.fish
function __basalt_words
    # The verb and what follows it, without flags and their values.
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word ${valued.join(' ')}; or string match -qr '^--[^=]*\\.[^=]*$' -- $word
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

function __basalt_verb
    set -l words (__basalt_words)
    test (count $words) -gt 0; and test "$words[1]" = "$argv[1]"
end

# Whether the word at the cursor is argument number $argv[2] of the verb $argv[1]; "" 0: the verb itself.
function __basalt_place
    set -l words (__basalt_words)
    if test "$argv[1]" = ""
        test (count $words) = 0
    else
        test (count $words) = (math $argv[2] + 1); and test "$words[1]" = "$argv[1]"
    end
end

function __basalt_volumes
    set -l folder ./volumes
    set -l words (commandline -opc)
    for index in (seq (count $words))
        if test "$words[$index]" = --data; and test $index -lt (count $words)
            set folder (string replace -r '^~' $HOME -- $words[(math $index + 1)])
        else if string match -q -- '--data=*' $words[$index]
            set folder (string replace -r '^~' $HOME -- (string replace -- --data= '' $words[$index]))
        end
    end
    for manifest in $folder/*/manifest
        basename (dirname $manifest)
    end
end

complete -c basalt -f
complete -c basalt -l help -d 'show help'
${line('__basalt_place "" 0', '-l version', 'show the version')}
${verbs.flatMap((verb) => verbLines(verb, settingFlags)).join('\n')}
`;
}
