/** `basalt open-remote URL NAME`, `basalt takeover NAME` */
import type { Argv, Options } from 'yargs';
import type { OnProgress } from '../../volume/volume-info.ts';
import type { Restored } from '../../volume/restore-volume.ts';
import type { CliContext, VolumeManager } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, readSettings, SETTINGS_FLAGS } from '../flags.ts';
import { formatJson } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { shellWord } from './create.ts';
import { BUCKET_FLAGS, bucketOf } from './remote-flags.ts';

const FORCE_FLAG = { type: 'boolean', default: false, describe: 'take it though its last writer may still be at work: that one is fenced off, and what it has not shipped is not in the volume' } as const satisfies Options;
const PREFETCH_FLAG = { type: 'boolean', default: false, describe: 'while it is open, fetch what was used last, as far as remote.cache_bytes goes, behind those who read' } as const satisfies Options;

export const openRemoteFlags = { ...BUCKET_FLAGS, force: FORCE_FLAG, prefetch: PREFETCH_FLAG, data: DATA_FLAG, ...SETTINGS_FLAGS, json: JSON_FLAG } as const satisfies Record<string, Options>;
export const takeoverFlags = { force: FORCE_FLAG, prefetch: PREFETCH_FLAG, data: DATA_FLAG, ...SETTINGS_FLAGS, json: JSON_FLAG } as const satisfies Record<string, Options>;

interface Where {
  readonly data: string;
  readonly config?: string | undefined;
  readonly set?: string[] | undefined;
}

/** Runs `task` with a directory of volumes, made if need be, that may open buckets; how far it is shows on a terminal. */
export async function withBuckets<T>(context: CliContext, where: Where, task: (volumes: VolumeManager, onProgress: OnProgress) => Promise<T>): Promise<T> {
  const { settings } = await readSettings(context, { config: where.config, set: where.set });
  const volumes = await context.openVolumes({ directory: where.data, settings: settings.engine, remote: settings.remote, makeDirectory: true });
  const line = new ProgressLine(context.terminal, () => performance.now());
  try {
    return await task(volumes, line.update);
  } finally {
    line.end();
    await volumes.close();
  }
}

function describe(name: string, { epoch, lastLsn, chainChunks, objects }: Restored, directory: string): string {
  return [
    `${name} is this host's now (epoch ${epoch}): up to LSN ${lastLsn}, ${objects} objects in the bucket, ${chainChunks} of them behind its last checkpoint`,
    `  serve:   basalt serve --data ${shellWord(directory)}`,
    '  what is read is fetched when it is needed',
    '',
  ].join('\n');
}

export function addOpenRemote(program: Argv, context: CliContext): Argv {
  return program.command(
    'open-remote <url> <name>',
    'make a volume here of what its bucket has: on another host, or when the disk is gone',
    (verb) =>
      verb
        .positional('url', { type: 'string', demandOption: true, describe: 's3://BUCKET/PREFIX of the volume' })
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume here' })
        .options(openRemoteFlags)
        .example('$0 open-remote s3://backups/demo demo --endpoint https://s3.example.com', 'its last writer is fenced off; refused while that one may be at work')
        .example('$0 open-remote s3://backups/demo demo --prefetch', 'and warm as soon as it is served'),
    async (parsed) => {
      const bucket = bucketOf(parsed.url, parsed);
      const restored = await withBuckets(context, parsed, (volumes, onProgress) => volumes.openRemote(parsed.name, bucket, { isForced: parsed.force, prefetches: parsed.prefetch, onProgress }));
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, ...restored }) : describe(parsed.name, restored, parsed.data));
    },
  );
}

export function addTakeover(program: Argv, context: CliContext): Argv {
  return program.command(
    'takeover <name>',
    'take a volume back that another host has taken over; what is here of it is moved aside',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(takeoverFlags)
        .example('$0 takeover demo', 'refused while the other host may be at work'),
    async (parsed) => {
      const { keptAs, ...restored } = await withBuckets(context, parsed, (volumes, onProgress) => volumes.takeOver(parsed.name, { isForced: parsed.force, prefetches: parsed.prefetch, onProgress }));
      const kept = `  what was here of it is kept in ${shellWord(`${parsed.data}/${keptAs}`)}: delete that when nothing in it is missed\n`;
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, keptAs, ...restored }) : `${describe(parsed.name, restored, parsed.data)}${kept}`);
    },
  );
}
