/** `basalt follow URL NAME`, `basalt refresh NAME` */
import type { Argv, Options } from 'yargs';
import { formatSize } from '../../base/units.ts';
import type { Followed } from '../../volume/follow-volume.ts';
import type { FollowStatus } from '../../volume/volume-info.ts';
import type { CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, SETTINGS_FLAGS } from '../flags.ts';
import { formatJson } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';
import { shellWord } from './create.ts';
import { withBuckets } from './open-remote.ts';
import { BUCKET_FLAGS, bucketOf } from './remote-flags.ts';

const { 'single-writer': _, ...READING_FLAGS } = BUCKET_FLAGS;

export const followFlags = {
  ...READING_FLAGS,
  pin: { type: 'boolean', default: false, describe: 'stay at the state that the bucket has now, until basalt refresh; once its owner removes something of it, reads of that fail' },
  data: DATA_FLAG,
  ...SETTINGS_FLAGS,
  json: JSON_FLAG,
} as const satisfies Record<string, Options>;
export const refreshFlags = { data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

function describe(name: string, { url, owner, lsn, sizeBytes, isPinned }: Followed, directory: string): string {
  return [
    `${name} follows ${url}, ${formatSize(sizeBytes)}, which ${owner === '' ? 'another host' : `host ${owner}`} writes: now up to LSN ${lsn}${isPinned ? ', and pinned to that' : ''}`,
    `  serve:   basalt serve --data ${shellWord(directory)}   (read-only; what is read is fetched when it is needed)`,
    '  mount:   with ro, and noload where the file system has a journal; unmount and mount again to see a newer state whole',
    '',
  ].join('\n');
}

/** `up to LSN 4711 (epoch 3, checkpoint 12, chunk 310), put 12.3 s ago` */
export function describeState({ lsn, epoch, checkpoint, chunk, ageMs }: FollowStatus): string {
  return `up to LSN ${lsn} (epoch ${epoch}, checkpoint ${checkpoint}, chunk ${chunk}), put ${(ageMs / 1000).toFixed(1)} s ago`;
}

export function addFollow(program: Argv, context: CliContext): Argv {
  return program.command(
    'follow <url> <name>',
    'read a volume here that another host writes, from its bucket; nothing is changed there',
    (verb) =>
      verb
        .positional('url', { type: 'string', demandOption: true, describe: 's3://BUCKET/PREFIX of the volume' })
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume here' })
        .options(followFlags)
        .example('$0 follow s3://backups/demo demo-copy --endpoint https://s3.example.com', 'served read-only; it moves on every remote.follow_interval_ms')
        .example('$0 follow s3://backups/demo demo-now --pin', 'stays as it is now, for a backup say'),
    async (parsed) => {
      const bucket = bucketOf(parsed.url, { ...parsed, 'single-writer': false });
      const followed = await withBuckets(context, parsed, (volumes, onProgress) => volumes.follow(parsed.name, bucket, { isPinned: parsed.pin, onProgress }));
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, ...followed }) : describe(parsed.name, followed, parsed.data));
    },
  );
}

export function addRefresh(program: Argv, context: CliContext): Argv {
  return program.command(
    'refresh <name>',
    'move a volume that is followed on to the newest state in its bucket, at once',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(refreshFlags)
        .example('$0 refresh demo-copy', 'also while it is served; what is pinned is pinned to that state'),
    async (parsed) => {
      const following = await withVolumes(context, parsed.data, (volumes) => volumes.refresh(parsed.name));
      context.terminal.out(parsed.json ? formatJson({ name: parsed.name, following }) : `${parsed.name} is ${describeState(following)}\n`);
    },
  );
}
