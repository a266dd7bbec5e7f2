/** `basalt list` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import type { VolumeInfo } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, readSettings } from '../flags.ts';
import { formatJson, formatTable } from '../output.ts';

export const listFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

function describeList(volumes: readonly VolumeInfo[], directory: string): string {
  if (volumes.length === 0) return `no volumes in ${directory}; make one with: basalt create NAME SIZE\n`;
  const rows = volumes.map((info) => [info.name, formatSize(info.sizeBytes), info.durability, formatSize(info.storedBytes), info.open ? 'yes' : 'no']);
  return formatTable([['NAME', 'SIZE', 'DURABILITY', 'STORED', 'OPEN'], ...rows]);
}

export function addList(program: Argv, context: CliContext): Argv {
  return program.command(
    'list',
    'list the volumes',
    (verb) => verb.options(listFlags).example('$0 list', 'all volumes in ./volumes').example('$0 list --json', 'the same for machines'),
    async (parsed) => {
      const { settings } = await readSettings(context);
      const volumes = await context.openVolumes({ directory: parsed.data, settings: settings.engine });
      try {
        const infos = await volumes.describeAll();
        context.terminal.out(parsed.json ? formatJson(infos) : describeList(infos, parsed.data));
      } finally {
        await volumes.close();
      }
    },
  );
}
