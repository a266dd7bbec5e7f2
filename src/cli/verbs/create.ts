/** `basalt create NAME SIZE` */
import type { Argv, Options } from 'yargs';
import { VOLUME_COMPRESSIONS } from '../../base/compression.ts';
import { DURABILITY_MODES } from '../../base/durability.ts';
import { formatSize } from '../../base/units.ts';
import { changedLimits, NO_LIMITS } from '../../base/volume-limits.ts';
import type { LoadedSettings } from '../../config/load-settings.ts';
import type { NewRemote } from '../../volume/remote-volumes.ts';
import type { CreateOptions, LogChoices, VolumeInfo } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, once, readSettings, SETTINGS_FLAGS, sizeOf } from '../flags.ts';
import { formatJson } from '../output.ts';
import { compressionOf } from './compression.ts';
import { BUCKET_FLAGS, bucketOf } from './remote-flags.ts';
import { checkConsent, DATA_LOSS_FLAG, durabilityOf } from './durability.ts';
import { LIMIT_FLAGS, limitChanges } from './limit.ts';

export const createFlags = {
  durability: {
    type: 'string',
    requiresArg: true,
    choices: DURABILITY_MODES,
    default: 'batched',
    coerce: durabilityOf,
    describe: 'what an answered write and flush promise (see the README)',
  },
  'accept-data-loss': DATA_LOSS_FLAG,
  compression: {
    type: 'string',
    requiresArg: true,
    choices: VOLUME_COMPRESSIONS,
    default: 'default',
    coerce: compressionOf,
    describe: 'of new chunks; default: as engine.chunk_compress of whoever serves it says',
  },
  'block-size': { type: 'string', requiresArg: true, default: '4096', coerce: sizeOf('block-size'), describe: 'power of two, 4096 to 65536' },
  ...LIMIT_FLAGS,
  remote: { type: 'string', requiresArg: true, coerce: once('remote'), describe: 's3://BUCKET/PREFIX: the volume is shipped there, and can be opened from there on another host' },
  ...BUCKET_FLAGS,
  data: DATA_FLAG,
  ...SETTINGS_FLAGS,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;

/** Quotes a word for a POSIX shell where it needs it. */
export function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

function describeCreated(info: VolumeInfo, directory: string): string {
  const name = shellWord(info.name);
  const uri = shellWord(`nbd://127.0.0.1/${encodeURIComponent(info.name)}`);
  return [
    `created ${info.name}: ${formatSize(info.sizeBytes)} in blocks of ${formatSize(info.blockSizeBytes)}, ${info.durability}`,
    `  serve:   basalt serve --data ${shellWord(directory)}`,
    `  attach:  sudo nbd-client -N ${name} 127.0.0.1 10809 /dev/nbd0`,
    `  look:    nbdinfo ${uri}`,
    '',
  ].join('\n');
}

/** What the caller's settings say of a log; the rest is as those of the server say. */
function logChoices({ settings: { engine }, origins }: LoadedSettings): LogChoices {
  return {
    ...(origins.has('engine.log_file_bytes') ? { logFileBytes: engine.logFileBytes } : {}),
    ...(origins.has('engine.log_file_count') ? { logFileCount: engine.logFileCount } : {}),
    ...(origins.has('engine.erase_block_bytes') ? { eraseBlockBytes: engine.eraseBlockBytes } : {}),
    ...(origins.has('engine.log_io') ? { logIo: engine.logIo } : {}),
  };
}

interface Wanted {
  readonly data: string;
  readonly name: string;
  readonly options: CreateOptions;
  readonly remote: NewRemote | undefined;
}

/** Makes the volume, and its directory if need be, without a server. */
async function createHere(context: CliContext, { settings }: LoadedSettings, { data, name, options, remote }: Wanted): Promise<VolumeInfo> {
  const volumes = await context.openVolumes({ directory: data, settings: settings.engine, remote: settings.remote, makeDirectory: true });
  try {
    return await volumes.create(name, options, remote);
  } finally {
    await volumes.close();
  }
}

export function addCreate(program: Argv, context: CliContext): Argv {
  return program.command(
    'create <name> <size>',
    'make a volume',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume, and of its export' })
        .positional('size', { type: 'string', demandOption: true, coerce: sizeOf('size'), describe: 'size, such as 512M, 10G or 1T; a multiple of the block size' })
        .options(createFlags)
        .example('$0 create demo 10G', 'a volume of 10 GiB in ./volumes')
        .example('$0 create db 100G --remote s3://volumes/db --endpoint https://s3.example.com', 'one that is kept in a bucket as well')
        .example('$0 create logs 64G --durability strict', 'one whose writes are on disk when they are answered')
        .example('$0 create mail 64G --compression lz4', 'one whose chunks are compressed where that pays'),
    async (parsed) => {
      checkConsent(parsed.durability, parsed['accept-data-loss']);
      const loaded = await readSettings(context, parsed);
      const options = { sizeBytes: parsed.size, blockSizeBytes: parsed['block-size'], durability: parsed.durability, compression: parsed.compression, limits: changedLimits(NO_LIMITS, limitChanges(parsed)) };
      const remote = parsed.remote === undefined ? undefined : bucketOf(parsed.remote, parsed);
      // A bucket is looked at with the credentials of whoever makes the volume.
      const server = remote === undefined ? await context.findServer(parsed.data) : null;
      const info = server === null ? await createHere(context, loaded, { ...parsed, options, remote }) : await server.create(parsed.name, { ...options, log: logChoices(loaded) });
      context.terminal.out(parsed.json ? formatJson(info) : describeCreated(info, parsed.data));
    },
  );
}
