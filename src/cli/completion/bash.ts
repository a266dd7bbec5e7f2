/** Completion for bash. No program is started for it but the shell's own words: Node takes a third of a second to start on a small machine. */
import { type ArgumentWords, type CommandWords, valuedFlags } from './words.ts';

const quote = (words: readonly string[]): string => `'${words.join(' ')}'`;

/** The case of one place: `'show 0') ...`. */
function argumentCase(place: string, words: ArgumentWords): string[] {
  if (words.kind === 'volume') return [`      '${place}') words=$(_basalt_volumes "$data") ;;`];
  if (words.kind === 'words') return [`      '${place}') words=${quote(words.words)} ;;`];
  return words.kind === 'file' ? [`      '${place}') compopt -o default; return ;;`] : [];
}

export function bashCompletion(command: CommandWords): string {
  const { verbs, settingFlags } = command;
  const valued = valuedFlags(command);
  const withValues = valued.filter(({ values }) => values.length > 0);
  const settingVerbs = verbs.filter(({ takesSettings }) => takesSettings).map(({ name }) => name);
  return `# Completion of basalt for bash: made by basalt completion bash. Put it where bash-completion looks, or source it.
_basalt_volumes() {
  local manifest folder=\${1/#\\~/$HOME}
  for manifest in "$folder"/*/manifest; do
    [[ -e $manifest ]] || continue
    manifest=\${manifest%/manifest}
    printf '%s ' "\${manifest##*/}"
  done
}

_basalt() {
  local current=\${COMP_WORDS[COMP_CWORD]} verb='' data=./volumes valued='' words='' place=0 index word
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index += 1)); do
    word=\${COMP_WORDS[index]}
    [[ $word == '=' ]] && continue # bash takes --data=x for three words
    if [[ -n $valued ]]; then
      [[ $valued == --data ]] && data=$word
      valued=''
      continue
    fi
    case $word in
      ${valued.map(({ name }) => `--${name}`).join('|')}|--*.*) valued=$word ;;
      -*) ;;
      *) if [[ -z $verb ]]; then verb=$word; else place=$((place + 1)); fi ;;
    esac
  done
  [[ $current == '=' ]] && current=''

  if [[ -n $valued ]]; then
    case $valued in
${withValues.map(({ name, values }) => `      --${name}) words=${quote(values)} ;;`).join('\n')}
      *) compopt -o default; return ;;
    esac
  elif [[ $current == --*.* ]]; then
    case $verb in
      ${settingVerbs.join('|')}) words=${quote(settingFlags.map((name) => `--${name}`))} ;;
    esac
  elif [[ $current == -* ]]; then
    case $verb in
${verbs.map(({ name, flags }) => `      ${name}) words=${quote([...flags.map((flag) => `--${flag.name}`), '--help'])} ;;`).join('\n')}
      '') words='--help --version' ;;
    esac
  else
    case "$verb $place" in
      ' 0') words=${quote(verbs.map(({ name }) => name))} ;;
${verbs.flatMap(({ name, arguments: places }) => places.flatMap((words, place) => argumentCase(`${name} ${place}`, words))).join('\n')}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}

complete -F _basalt basalt
`;
}
