/** `basalt resize NAME SIZE` */
import type { Argv, Options } from 'yargs';
import { VolumeError } from '../../base/errors.ts';
import { formatSize } from '../../base/units.ts';
import { EXIT, UsageError, type CliContext, type VolumeChanges } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, sizeOf } from '../flags.ts';
import { formatJson } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';

export const resizeFlags = {
  yes: { type: 'boolean', default: false, describe: 'make it smaller, whatever that cuts off' },
  data: DATA_FLAG,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

interface Wish {
  readonly name: string;
  readonly sizeBytes: number;
  readonly yes: boolean;
}

/** False: whoever was asked does not want it. */
async function resize({ terminal }: CliContext, volumes: VolumeChanges, { name, sizeBytes, yes }: Wish): Promise<boolean> {
  try {
    await volumes.resize(name, sizeBytes, { mayShrink: yes });
    return true;
  } catch (error) {
    if (!(error instanceof VolumeError) || error.context.needsConsent !== true) throw error;
    if (!terminal.isInteractive) throw new UsageError(`${error.message}; add --yes if that is wanted`, error.context);
    const answer = await terminal.ask(`${error.message}. Do it? [y/N] `);
    if (!/^y(?:es)?$/i.test(answer.trim())) return false;
    await volumes.resize(name, sizeBytes, { mayShrink: true });
    return true;
  }
}

/** `exit` tells the exit code of a verb that ends well but not with 0: a refused question. */
export function addResize(program: Argv, context: CliContext, exit: (code: number) => void): Argv {
  return program.command(
    'resize <name> <size>',
    'make a volume larger, or cut off its end, also while it is served',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('size', { type: 'string', demandOption: true, coerce: sizeOf('size'), describe: 'its new size, such as 20G; a multiple of the block size' })
        .options(resizeFlags)
        .example('$0 resize demo 20G', 'at once; clients see it when they connect anew')
        .example('$0 resize demo 5G', 'says what would be lost, and asks')
        .example('$0 resize demo 5G --yes', 'for scripts: make file systems in it smaller first'),
    async (parsed) => {
      const { name, size: sizeBytes, yes } = parsed;
      const isDone = await withVolumes(context, parsed.data, (volumes) => resize(context, volumes, { name, sizeBytes, yes }));
      if (!isDone) {
        context.terminal.error(`${name} keeps its size\n`);
        exit(EXIT.failure);
        return;
      }
      const text = `${name} has ${formatSize(sizeBytes)} from now on; clients see it when they connect anew\n`;
      context.terminal.out(parsed.json ? formatJson({ name, sizeBytes }) : text);
    },
  );
}
