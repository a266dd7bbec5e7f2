/** Turns yargs' complaints into ours, which name the nearest right verb or flag. */
import { nearest } from '../config/nearest.ts';
import { UsageError } from './context.ts';

export interface Usage {
  /** Flags of each verb, without dashes. */
  readonly flagsOfVerb: Readonly<Record<string, readonly string[]>>;
  /** What follows each verb: `NAME SIZE`. */
  readonly argumentsOfVerb: Readonly<Record<string, string>>;
}

const COMMON_FLAGS = ['help', 'version'];

/** The verb among the words of the command line, if there is one. */
function verbOf(words: readonly string[], usage: Usage): string | undefined {
  return words.find((word) => Object.hasOwn(usage.flagsOfVerb, word));
}

function unknownWord(name: string, words: readonly string[], usage: Usage): UsageError {
  const verb = verbOf(words, usage);
  const verbs = Object.keys(usage.flagsOfVerb);
  if (words.includes(name) && !name.startsWith('-')) {
    if (verb === undefined) return new UsageError(`no verb "${name}"; did you mean ${nearest(name, verbs)}? (basalt --help lists them)`, { verb: name });
    return new UsageError(`${verb}: unexpected argument "${name}"; usage: basalt ${verb} ${usage.argumentsOfVerb[verb] ?? ''}`.trimEnd(), { verb });
  }
  const dashes = name.length === 1 ? '-' : '--';
  const ofVerb = verb === undefined ? [] : (usage.flagsOfVerb[verb] ?? []);
  const suggestion = nearest(name, [...ofVerb, ...COMMON_FLAGS]);
  return new UsageError(`${verb === undefined ? '' : `${verb}: `}no flag ${dashes}${name}; did you mean --${suggestion}?`, { flag: name });
}

/** The error for a message of yargs (locale `en`) about the command line `words`. */
export function usageError(message: string, words: readonly string[], usage: Usage): UsageError {
  const unknown = /^Unknown (?:argument|command)s?: ([^,]*)/.exec(message)?.[1];
  if (unknown !== undefined) return unknownWord(unknown, words, usage);
  const verb = verbOf(words, usage);
  if (verb !== undefined && message.startsWith('Not enough non-option arguments')) {
    return new UsageError(`${verb}: something is missing; usage: basalt ${verb} ${usage.argumentsOfVerb[verb]}`, { verb });
  }
  const valueless = /^Not enough arguments following: (.*)$/.exec(message)?.[1];
  if (valueless !== undefined) return new UsageError(`--${valueless} takes a value`, { flag: valueless });
  return new UsageError(message);
}
