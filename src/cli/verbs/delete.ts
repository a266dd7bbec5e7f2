/** `basalt delete NAME` */
import type { Argv, Options } from 'yargs';
import { VolumeError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import { EXIT, UsageError, type CliContext, type VolumeChanges } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';

export const deleteFlags = {
  yes: { type: 'boolean', default: false, describe: 'do not ask' },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** What is about to be lost. A damaged volume must be deletable too; one that is not there must not be asked about. */
async function describeLoss(volumes: VolumeChanges, name: string): Promise<string> {
  try {
    const info = await volumes.describe(name);
    return `${name} (${formatSize(info.sizeBytes)}, ${formatSize(info.storedBytes)} stored)`;
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'corrupt') return `${name} (damaged: ${error.message})`;
    throw error;
  }
}

/** `exit` tells the exit code of a verb that ends well but not with 0: a refused question. */
export function addDelete(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'delete <name>',
    'delete a volume and all its data',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(deleteFlags)
        .example('$0 delete demo', 'asks, then deletes')
        .example('$0 delete demo --yes', 'deletes without asking, for scripts'),
    async (parsed) => {
      const { terminal } = context;
      if (!parsed.yes && !terminal.isInteractive) {
        throw new UsageError(`delete ${parsed.name}: nobody is here to be asked; add --yes to delete it`, { volume: parsed.name });
      }
      await withVolumes(context, parsed.data, async (volumes) => {
        const loss = await describeLoss(volumes, parsed.name);
        if (!parsed.yes) {
          const answer = await terminal.ask(`Delete ${loss} and all its data? [y/N] `);
          if (!/^y(?:es)?$/i.test(answer.trim())) {
            terminal.error(`${parsed.name} is kept\n`);
            exit(EXIT.failure);
            return;
          }
        }
        await volumes.remove(parsed.name);
        terminal.out(parsed.json ? formatJson({ deleted: parsed.name }) : `deleted ${parsed.name}\n`);
      });
    },
  );
}
