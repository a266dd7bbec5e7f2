/** `basalt limit NAME --iops N --bandwidth SIZE` */
import type { Argv, Options } from 'yargs';
import { describeLimits, type LimitChanges } from '../../base/volume-limits.ts';
import { UsageError, type CliContext } from '../context.ts';
import { DATA_FLAG, JSON_FLAG, once, sizeOf } from '../flags.ts';
import { formatJson } from '../output.ts';
import { withVolumes } from '../with-volumes.ts';

const NONE = 'none';

function iopsOf(flag: string): (value: string | readonly string[]) => number | null {
  return (value) => {
    const text = once(flag)(value);
    if (text === NONE) return null;
    if (/^\d+$/.test(text)) return Number(text);
    throw new UsageError(`${flag} "${text}": give a whole number of requests, such as 500, or ${NONE}`, { flag });
  };
}

function bytesOf(flag: string): (value: string | readonly string[]) => number | null {
  return (value) => (value === NONE ? null : sizeOf(flag)(value));
}

/** The limits, wherever they are given. */
export const LIMIT_FLAGS = {
  iops: { type: 'string', requiresArg: true, coerce: iopsOf('iops'), describe: 'at most so many requests of clients a second' },
  'iops-burst': { type: 'string', requiresArg: true, coerce: iopsOf('iops-burst'), describe: 'so many at once after a rest; without it a tenth of --iops' },
  bandwidth: { type: 'string', requiresArg: true, coerce: bytesOf('bandwidth'), describe: 'at most so many bytes a second, such as 20M' },
  'bandwidth-burst': { type: 'string', requiresArg: true, coerce: bytesOf('bandwidth-burst'), describe: 'so many at once after a rest; without it a tenth of --bandwidth' },
} as const satisfies Record<string, Options>;

export const limitFlags = { ...LIMIT_FLAGS, data: DATA_FLAG, json: JSON_FLAG } as const satisfies Record<string, Options>;

interface LimitArguments {
  readonly iops?: number | null | undefined;
  readonly 'iops-burst'?: number | null | undefined;
  readonly bandwidth?: number | null | undefined;
  readonly 'bandwidth-burst'?: number | null | undefined;
}

/** What the flags change. */
export function limitChanges(parsed: LimitArguments): LimitChanges {
  const { iops, 'iops-burst': iopsBurst, bandwidth, 'bandwidth-burst': bandwidthBurst } = parsed;
  return {
    ...(iops === undefined ? {} : { operationsPerSecond: iops }),
    ...(iopsBurst === undefined ? {} : { burstOperations: iopsBurst }),
    ...(bandwidth === undefined ? {} : { bytesPerSecond: bandwidth }),
    ...(bandwidthBurst === undefined ? {} : { burstBytes: bandwidthBurst }),
  };
}

export function addLimit(program: Argv, context: CliContext): Argv {
  return program.command(
    'limit <name>',
    'show how much clients may ask of a volume, or change it',
    (verb) =>
      verb
        .positional('name', { type: 'string', demandOption: true, describe: 'name of the volume' })
        .options(limitFlags)
        .example('$0 limit demo --iops 500 --iops-burst 2000', 'at once, also for clients at work: 500 a second, 2000 after a rest of four seconds')
        .example('$0 limit demo --bandwidth 20M', '20 MiB a second, in reads and writes together; flushes are never held up')
        .example('$0 limit demo --iops none --bandwidth none', 'as fast as it goes'),
    async (parsed) => {
      const { name } = parsed;
      const changes = limitChanges(parsed);
      const isLook = Object.keys(changes).length === 0;
      const limits = await withVolumes(context, parsed.data, (volumes) => (isLook ? volumes.limitsOf(name) : volumes.setLimits(name, changes)));
      context.terminal.out(parsed.json ? formatJson({ name, limits }) : `limits of ${name}: ${describeLimits(limits)}\n`);
    },
  );
}
