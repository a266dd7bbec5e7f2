/** `basalt durability NAME MODE` */
import type { Argv, Options } from 'yargs';
import { DURABILITY_MODES, isDurability, type Durability } from '../../base/durability.ts';
import { nearest } from '../../config/nearest.ts';
import { UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, once, readSettings } from '../flags.ts';
import { formatJson } from '../output.ts';

/** The consent to mode async, wherever that is chosen. */
export const DATA_LOSS_FLAG = { type: 'boolean', default: false, describe: 'needed for async: a crash may lose what was answered, flushed or not' } as const satisfies Options;

export const durabilityFlags = { 'accept-data-loss': DATA_LOSS_FLAG, data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** For `coerce`: a durability mode. */
export function durabilityOf(value: string | readonly string[]): Durability {
  const text = once('durability')(value);
  if (isDurability(text)) return text;
  const hint = `did you mean ${nearest(text, DURABILITY_MODES)}?`;
  throw new UsageError(`durability "${text}" is none of ${DURABILITY_MODES.join(', ')}; ${hint}`, { flag: 'durability' });
}

/** Throws unless who chooses async says that he knows what it means. */
export function checkConsent(durability: Durability, hasConsent: boolean): void {
  if (durability !== 'async' || hasConsent) return;
  throw new UsageError(
    'async answers writes and flushes before they are on disk: a crash loses up to engine.async_interval_ms of them; add --accept-data-loss if that is wanted, or choose relaxed, which loses nothing that was flushed',
    { flag: 'accept-data-loss' },
  );
}

/** Changes the mode through the server that runs in the directory, or else under the volume's lock. True if a server did it. */
async function change(context: CliContext, directory: string, name: string, durability: Durability): Promise<boolean> {
  const server = await context.findServer(directory);
  if (server !== null) {
    await server.setDurability(name, durability);
    return true;
  }
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine });
  try {
    await volumes.setDurability(name, durability);
    return false;
  } finally {
    await volumes.close();
  }
}

export function addDurability(program: Argv, context: CliContext): Argv {
  return program.command(
    'durability <name> <mode>',
    'change what answered writes and flushes promise',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('mode', { type: 'string', demandOption: true, coerce: durabilityOf, describe: `${DURABILITY_MODES.join(', ')} (see the README)` })
        .options(durabilityFlags)
        .example('$0 durability demo strict', 'at once, also while the volume is served; what was written before is on disk on return')
        .example('$0 durability scratch async --accept-data-loss', 'for data that can be made again'),
    async (parsed) => {
      checkConsent(parsed.mode, parsed['accept-data-loss']);
      const live = await change(context, parsed.data, parsed.name, parsed.mode);
      const text = `${parsed.name} is ${parsed.mode} from now on; everything written before is on disk\n`;
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, durability: parsed.mode, live }) : text);
    },
  );
}
