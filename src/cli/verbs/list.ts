/** `basalt list` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import type { ListedDetails } from '../../control/routes.ts';
import type { UnreadableVolume } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, readSettings } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';

export const listFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** Whether and how a process has it open. */
function describeOpen(info: Exclude<ListedDetails, UnreadableVolume>): string {
  if (!info.open) return 'no';
  return info.live !== null && info.live.readOnly !== null ? 'read-only' : 'yes';
}

/** A list looks for no damage: that takes as long as opening the volumes. */
function describeDamage({ damage, damageLookedFor }: Exclude<ListedDetails, UnreadableVolume>): string {
  if (damage !== null) return 'yes';
  return damageLookedFor ? 'none' : 'not looked for';
}

function describeList(volumes: readonly ListedDetails[], directory: string): string {
  if (volumes.length === 0) return `no volumes in ${directory}; make one with: basalt create NAME SIZE\n`;
  const rows = volumes.map((info) => ('id' in info ? [info.name, formatSize(info.sizeBytes), info.follows === null ? info.durability : 'followed', formatSize(info.storedBytes), describeOpen(info), describeDamage(info)] : [info.name, '-', '-', '-', 'no', 'yes']));
  const damages = volumes.flatMap(({ name, damage }) => (damage === null ? [] : [`${name}: ${damage}\n`]));
  return `${formatTable([['NAME', 'SIZE', 'DURABILITY', 'STORED', 'OPEN', 'DAMAGE'], ...rows])}${damages.join('')}`;
}

/** What the server that runs in the directory says of its volumes, or else what their files say. */
async function lookUp(context: CliContext, directory: string): Promise<readonly ListedDetails[]> {
  const server = await context.findServer(directory);
  if (server !== null) return server.volumes();
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine });
  try {
    return (await volumes.describeAll()).map((info) => ('id' in info ? { ...info, live: null, space: null } : info));
  } finally {
    await volumes.close();
  }
}

export function addList(program: Argv, context: CliContext): Argv {
  return program.command(
    'list',
    'list the volumes',
    (verb) => verb.options(listFlags).example('$0 list', 'all volumes in ./volumes').example('$0 list --json', 'the same for machines'),
    async (parsed) => {
      const volumes = await lookUp(context, parsed.data);
      context.terminal.out(parsed.json ? formatJson(volumes) : describeList(volumes, parsed.data));
    },
  );
}
