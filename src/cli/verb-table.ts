/** All verbs, in the order of the help: what each takes. The program, its messages, shell completion and the README are held to this table. */
import type { Argv, Options } from 'yargs';
import { VOLUME_COMPRESSIONS } from '../base/compression.ts';
import { DURABILITY_MODES } from '../base/durability.ts';
import { type ArgumentWords, type CommandWords, flagWords, SHELLS, verbDescriptions } from './completion/words.ts';
import type { VerbParts } from './context.ts';
import { settingFlagNames } from './flags.ts';
import type { Usage } from './usage.ts';
import { addAttach, attachFlags } from './verbs/attach.ts';
import { addAttached, attachedFlags } from './verbs/attached.ts';
import { addCheck, checkFlags } from './verbs/check.ts';
import { addCompletion, completionFlags } from './verbs/completion.ts';
import { addCompression, compressionFlags } from './verbs/compression.ts';
import { addCreate, createFlags } from './verbs/create.ts';
import { addDelete, deleteFlags } from './verbs/delete.ts';
import { addDetach, detachFlags } from './verbs/detach.ts';
import { addDoctor, doctorFlags } from './verbs/doctor.ts';
import { addDrain, drainFlags } from './verbs/drain.ts';
import { addDurability, durabilityFlags } from './verbs/durability.ts';
import { addExplain, explainFlags } from './verbs/explain.ts';
import { addFollow, addRefresh, followFlags, refreshFlags } from './verbs/follow.ts';
import { addLabel, labelFlags } from './verbs/label.ts';
import { addLimit, limitFlags } from './verbs/limit.ts';
import { addList, listFlags } from './verbs/list.ts';
import { addOpenRemote, addTakeover, openRemoteFlags, takeoverFlags } from './verbs/open-remote.ts';
import { addPki, pkiFlags } from './verbs/pki.ts';
import { addRename, renameFlags } from './verbs/rename.ts';
import { addRepair, repairFlags } from './verbs/repair.ts';
import { addRescue, rescueFlags } from './verbs/rescue.ts';
import { addResize, resizeFlags } from './verbs/resize.ts';
import { addScrub, scrubFlags } from './verbs/scrub.ts';
import { addServe, serveFlags } from './verbs/serve.ts';
import { addSettings, settingsFlags } from './verbs/settings.ts';
import { addShow, showFlags } from './verbs/show.ts';
import { addStats, statsFlags } from './verbs/stats.ts';
import { addTop, topFlags } from './verbs/top.ts';
import { addTune, tuneFlags } from './verbs/tune.ts';

export interface Verb {
  readonly name: string;
  /** What follows it, such as `NAME SIZE`, with brackets about what may be left out. `NAME` is a volume that is there, but for `create`, `open-remote` and `follow`. */
  readonly arguments: string;
  readonly flags: Readonly<Record<string, Options>>;
  /** Whether each setting is a flag of it. */
  readonly takesSettings: boolean;
  readonly add: (program: Argv, parts: VerbParts) => Argv;
}

function verb(name: string, words: string, flags: Verb['flags'], add: Verb['add'], takesSettings = false): Verb {
  return { name, arguments: words, flags, takesSettings, add };
}

export const VERBS: readonly Verb[] = [
  verb('serve', '', serveFlags, (program, { context, exit }) => addServe(program, context, exit), true),
  verb('create', 'NAME SIZE', createFlags, (program, { context }) => addCreate(program, context)),
  verb('list', '', listFlags, (program, { context }) => addList(program, context)),
  verb('show', 'NAME', showFlags, (program, { context }) => addShow(program, context)),
  verb('stats', '[NAME]', statsFlags, (program, { context }) => addStats(program, context)),
  verb('top', '', topFlags, (program, { context }) => addTop(program, context)),
  verb('durability', 'NAME MODE', durabilityFlags, (program, { context }) => addDurability(program, context)),
  verb('compression', 'NAME METHOD', compressionFlags, (program, { context }) => addCompression(program, context)),
  verb('resize', 'NAME SIZE', resizeFlags, (program, { context, exit }) => addResize(program, context, exit)),
  verb('rename', 'NAME NEW', renameFlags, (program, { context }) => addRename(program, context)),
  verb('label', 'NAME [KEY=VALUE...]', labelFlags, (program, { context }) => addLabel(program, context)),
  verb('limit', 'NAME', limitFlags, (program, { context }) => addLimit(program, context)),
  verb('drain', 'NAME', drainFlags, (program, { context }) => addDrain(program, context)),
  verb('open-remote', 'URL NAME', openRemoteFlags, (program, { context }) => addOpenRemote(program, context)),
  verb('takeover', 'NAME', takeoverFlags, (program, { context }) => addTakeover(program, context)),
  verb('follow', 'URL NAME', followFlags, (program, { context }) => addFollow(program, context)),
  verb('refresh', 'NAME', refreshFlags, (program, { context }) => addRefresh(program, context)),
  verb('check', 'NAME', checkFlags, (program, { context, exit }) => addCheck(program, context, exit)),
  verb('explain', 'NAME OFFSET', explainFlags, (program, { context }) => addExplain(program, context)),
  verb('scrub', 'NAME', scrubFlags, (program, { context, exit }) => addScrub(program, context, exit)),
  verb('repair', 'NAME', repairFlags, (program, { context, exit }) => addRepair(program, context, exit)),
  verb('delete', 'NAME', deleteFlags, (program, { context, exit }) => addDelete(program, context, exit)),
  verb('attach', 'NAME|URI [DEVICE]', attachFlags, (program, { context }) => addAttach(program, context)),
  verb('detach', 'DEVICE|NAME|URI', detachFlags, (program, { context }) => addDetach(program, context)),
  verb('attached', '', attachedFlags, (program, { context }) => addAttached(program, context)),
  verb('rescue', 'DEVICE|NAME|URI', rescueFlags, (program, { context }) => addRescue(program, context)),
  verb('pki', 'DIRECTORY', pkiFlags, (program, { context }) => addPki(program, context)),
  verb('tune', 'DIRECTORY', tuneFlags, (program, { context }) => addTune(program, context)),
  verb('doctor', '', doctorFlags, (program, { context, exit }) => addDoctor(program, context, exit), true),
  verb('settings', '', settingsFlags, (program, { context }) => addSettings(program, context), true),
  verb('completion', 'SHELL', completionFlags, addCompletion),
];

/** What the messages about wrong usage are made from. */
export function usageOfVerbs(): Usage {
  const ofSettings = settingFlagNames();
  return {
    flagsOfVerb: Object.fromEntries(VERBS.map(({ name, flags, takesSettings }) => [name, [...Object.keys(flags), ...(takesSettings ? ofSettings : [])]])),
    argumentsOfVerb: Object.fromEntries(VERBS.map(({ name, arguments: words }) => [name, words])),
  };
}

/** `serve, create, list or show` */
export function listVerbs(): string {
  const names = VERBS.map(({ name }) => name);
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/** Verbs whose NAME is of a volume that is to be made. */
const MAKERS: ReadonlySet<string> = new Set(['create', 'open-remote', 'follow']);

function argumentWords(name: string, word: string): ArgumentWords {
  if (word === 'NAME' || word === '[NAME]' || word === 'NAME|URI') return { kind: MAKERS.has(name) ? 'any' : 'volume' };
  if (word === 'MODE') return { kind: 'words', words: DURABILITY_MODES };
  if (word === 'METHOD') return { kind: 'words', words: VOLUME_COMPRESSIONS };
  if (word === 'SHELL') return { kind: 'words', words: SHELLS };
  return { kind: word === 'DIRECTORY' || word === '[DEVICE]' || word === 'DEVICE|NAME|URI' ? 'file' : 'any' };
}

/** What a shell completes; `help` is the text of `basalt --help`, in lines of any length. */
export function commandWords(help: string): CommandWords {
  const descriptions = verbDescriptions(help);
  return {
    verbs: VERBS.map(({ name, arguments: words, flags, takesSettings }) => ({
      name,
      description: descriptions.get(name) ?? '',
      arguments: words === '' ? [] : words.split(' ').map((word) => argumentWords(name, word)),
      flags: Object.entries(flags).map(([flag, options]) => flagWords(flag, options)),
      takesSettings,
    })),
    settingFlags: settingFlagNames(),
  };
}
