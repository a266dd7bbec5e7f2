/** `basalt rename NAME NEW` */
import type { Argv, Options } from 'yargs';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG } from '../flags.ts';
import { formatJson } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';

export const renameFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

export function addRename(program: Argv, context: CliContext): Argv {
  return program.command(
    'rename <name> <new>',
    'give a volume that no client uses another name',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('new', { type: 'string', demandOption: true, describe: 'its new name, and that of its export' })
        .options(renameFlags)
        .example('$0 rename demo archive', 'clients find it as "archive" from then on; limits and rules of the settings file go by names'),
    async (parsed) => {
      const { name, new: target } = parsed;
      await withVolumes(context, parsed.data, (volumes) => volumes.rename(name, target));
      context.terminal.out(parsed.json ? formatJson({ name: target, renamedFrom: name }) : `${name} is ${target} from now on\n`);
    },
  );
}
