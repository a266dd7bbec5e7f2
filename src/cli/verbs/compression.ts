/** `basalt compression NAME METHOD` */
import type { Argv, Options } from 'yargs';
import { VOLUME_COMPRESSIONS, isVolumeCompression, type VolumeCompression } from '../../base/compression.ts';
import type { ChunkCompression } from '../../base/settings-types.ts';
import { nearest } from '../../config/nearest.ts';
import { UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, once, readSettings } from '../flags.ts';
import { formatJson } from '../output.ts';

export const compressionFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

/** For `coerce`: what a volume says of compression. */
export function compressionOf(value: string | readonly string[]): VolumeCompression {
  const text = once('compression')(value);
  if (isVolumeCompression(text)) return text;
  const hint = `did you mean ${nearest(text, VOLUME_COMPRESSIONS)}?`;
  throw new UsageError(`compression "${text}" is none of ${VOLUME_COMPRESSIONS.join(', ')}; ${hint}`, { flag: 'compression' });
}

interface Change {
  readonly chunkCompress: ChunkCompression;
  /** Whether a server did it. */
  readonly live: boolean;
}

export function addCompression(program: Argv, context: CliContext): Argv {
  return program.command(
    'compression <name> <method>',
    'change whether new chunks are compressed',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .positional('method', { type: 'string', demandOption: true, coerce: compressionOf, describe: `${VOLUME_COMPRESSIONS.join(', ')} (as engine.chunk_compress of whoever serves it says)` })
        .options(compressionFlags)
        .example('$0 compression demo lz4', 'at once, also while the volume is served; older chunks follow as they are rewritten')
        .example('$0 compression demo default', 'go by the settings again'),
    async (parsed) => {
      const { name, method } = parsed;
      const { chunkCompress, live } = await change(context, parsed.data, name, method);
      const text = `new chunks of ${name} ${describeForm(method, { chunkCompress, live })} from now on; older ones follow as they are rewritten\n`;
      context.terminal.out(parsed.json ? formatJson({ name, compression: method, chunkCompress, live }) : text);
    },
  );
}

/** Whoever serves a closed volume next may have other settings than this command. */
function describeForm(method: VolumeCompression, { chunkCompress, live }: Change): string {
  if (method === 'default' && !live) return 'are compressed or not as the settings of whoever serves it say';
  const why = method === 'default' ? ', as the settings of its server say,' : '';
  return chunkCompress === 'off' ? `are not compressed${why}` : `are compressed (${chunkCompress})${why}`;
}

/** Changes it through the server that runs in the directory, or else under the volume's lock. */
async function change(context: CliContext, directory: string, name: string, method: VolumeCompression): Promise<Change> {
  const server = await context.findServer(directory);
  if (server !== null) return { chunkCompress: await server.setCompression(name, method), live: true };
  const { settings } = await readSettings(context);
  const volumes = await context.openVolumes({ directory, settings: settings.engine });
  try {
    return { chunkCompress: await volumes.setCompression(name, method), live: false };
  } finally {
    await volumes.close();
  }
}
