/** `basalt show NAME` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import type { VolumeInfo } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, readSettings } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';

export const showFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** A size, and its exact bytes where the short form hides them. */
function exactSize(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}

export function describeVolume(info: VolumeInfo): string {
  const checkpoint =
    info.checkpointNumber === 0 ? 'none yet' : `${info.checkpointNumber} (up to chunk ${info.checkpointChunk}, LSN ${info.checkpointLsn})`;
  return formatTable([
    ['name', info.name],
    ['id', info.id],
    ['size', exactSize(info.sizeBytes)],
    ['block size', formatSize(info.blockSizeBytes)],
    ['durability', info.durability],
    ['stored', exactSize(info.storedBytes)],
    ['log', `${info.logFileCount} files of ${formatSize(info.logFileBytes)}`],
    ['checkpoint', checkpoint],
    ['opened', `${info.epoch} times for writing; open now: ${info.open ? 'yes' : 'no'}`],
    ['created', new Date(info.createdMs).toISOString()],
  ]);
}

export function addShow(program: Argv, context: CliContext): Argv {
  return program.command(
    'show <name>',
    'show what is known of a volume',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(showFlags)
        .example('$0 show demo', 'size, mode, space taken, last checkpoint'),
    async (parsed) => {
      const { settings } = await readSettings(context);
      const volumes = await context.openVolumes({ directory: parsed.data, settings: settings.engine });
      try {
        const info = await volumes.describe(parsed.name);
        context.terminal.out(parsed.json ? formatJson(info) : describeVolume(info));
      } finally {
        await volumes.close();
      }
    },
  );
}
