/** What a shell completes on a command line of basalt: taken from the verbs' own flags, and the help of yargs. */
import type { Options } from 'yargs';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export interface FlagWords {
  /** Without dashes. */
  readonly name: string;
  readonly description: string;
  /** Whether a value follows it. */
  readonly takesValue: boolean;
  /** The values there are; none: any, and files are offered. */
  readonly values: readonly string[];
}

/** What stands at one place behind a verb: the name of a volume that is there, one of some words, or anything. */
export type ArgumentWords = { readonly kind: 'volume' } | { readonly kind: 'words'; readonly words: readonly string[] } | { readonly kind: 'file' } | { readonly kind: 'any' };

export interface VerbWords {
  readonly name: string;
  readonly description: string;
  readonly arguments: readonly ArgumentWords[];
  readonly flags: readonly FlagWords[];
  readonly takesSettings: boolean;
}

export interface CommandWords {
  readonly verbs: readonly VerbWords[];
  /** `engine.arena-bytes` and all others. */
  readonly settingFlags: readonly string[];
}

export function flagWords(name: string, { type, choices, describe = '' }: Options): FlagWords {
  return { name, description: describe, takesValue: type !== 'boolean', values: (choices ?? []).map(String) };
}

/** The descriptions of the verbs in the text of `--help`: lines of `  basalt create <name> <size>  make a volume`. */
export function verbDescriptions(help: string): ReadonlyMap<string, string> {
  const lines = [...help.matchAll(/^ +basalt ([a-z-]+)(?: [<[][^\n]*?[>\]])? {2,}(\S.*?)$/gm)];
  return new Map(lines.map(([, name = '', description = '']) => [name, description]));
}

/** Flags that take a value, of all verbs. */
export function valuedFlags({ verbs }: CommandWords): readonly FlagWords[] {
  const found = new Map<string, FlagWords>();
  for (const { flags } of verbs) for (const flag of flags) if (flag.takesValue && !found.has(flag.name)) found.set(flag.name, flag);
  return [...found.values()];
}
