/** Completion for zsh: the same as for bash, with descriptions. */
import { type ArgumentWords, type CommandWords, type FlagWords, valuedFlags } from './words.ts';

/** One word for the shell, in single quotes. */
function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** For _describe, which takes the first colon for the end of the word. */
function described(word: string, description: string): string {
  return quote(`${word.replaceAll(':', String.raw`\:`)}:${description}`);
}

function flagList(flags: readonly FlagWords[]): string {
  return [...flags.map(({ name, description }) => described(`--${name}`, description)), described('--help', 'show help')].join(' ');
}

function argumentCase(place: string, words: ArgumentWords): string[] {
  if (words.kind === 'volume') return [`      '${place}') list=($data/*/manifest(N:h:t)); _describe volume list ;;`];
  if (words.kind === 'words') return [`      '${place}') list=(${words.words.map(quote).join(' ')}); _describe value list ;;`];
  return words.kind === 'file' ? [`      '${place}') _files ;;`] : [];
}

export function zshCompletion(command: CommandWords): string {
  const { verbs, settingFlags } = command;
  const valued = valuedFlags(command);
  const withValues = valued.filter(({ values }) => values.length > 0);
  const settingVerbs = verbs.filter(({ takesSettings }) => takesSettings).map(({ name }) => name);
  return `#compdef basalt
# Completion of basalt for zsh: made by basalt completion zsh. As _basalt in a folder of $fpath, or sourced behind compinit.
_basalt() {
  local current=$words[CURRENT] verb='' data=./volumes valued='' place=0 index word
  local -a list
  for ((index = 2; index < CURRENT; index += 1)); do
    word=$words[index]
    if [[ -n $valued ]]; then
      [[ $valued == --data ]] && data=\${~word}
      valued=''
      continue
    fi
    case $word in
      --data=*) data=\${~word#--data=} ;;
      --*=*) ;;
      ${valued.map(({ name }) => `--${name}`).join('|')}|--*.*) valued=$word ;;
      -*) ;;
      *) if [[ -z $verb ]]; then verb=$word; else place=$((place + 1)); fi ;;
    esac
  done

  if [[ -n $valued ]]; then
    case $valued in
${withValues.map(({ name, values }) => `      --${name}) list=(${values.map(quote).join(' ')}); _describe value list ;;`).join('\n')}
      *) _files ;;
    esac
  elif [[ $current == --*.* ]]; then
    case $verb in
      ${settingVerbs.join('|')}) list=(${settingFlags.map((name) => quote(`--${name}`)).join(' ')}); _describe setting list ;;
    esac
  elif [[ $current == -* ]]; then
    case $verb in
${verbs.map(({ name, flags }) => `      ${name}) list=(${flagList(flags)}); _describe flag list ;;`).join('\n')}
      '') list=('--help:show help' '--version:show the version'); _describe flag list ;;
    esac
  else
    case "$verb $place" in
      ' 0') list=(${verbs.map(({ name, description }) => described(name, description)).join(' ')}); _describe verb list ;;
${verbs.flatMap(({ name, arguments: places }) => places.flatMap((words, place) => argumentCase(`${name} ${place}`, words))).join('\n')}
    esac
  fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _basalt "$@"; else compdef _basalt basalt; fi
`;
}
