/** The command line of the benchmark of volumes with a bucket. */
import { parseArgs } from 'node:util';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';

export const PARTS = ['requests', 'stream', 'random'] as const;
export type Part = (typeof PARTS)[number];

export interface S3BenchOptions {
  readonly parts: readonly Part[];
  readonly rounds: number;
  /** Length of one job of the random writes. */
  readonly seconds: number;
  /** Data of the streams, and of the writes whose requests are counted. */
  readonly streamBytes: number;
  readonly randomBytes: number;
  readonly idleSeconds: number;
  readonly withS3backer: boolean;
  readonly json: boolean;
  readonly dataDirectory: string | null;
  readonly settings: readonly string[];
}

export const USAGE = `usage: make bench-s3 ARGS="..."

  --rounds N        rounds of the streams and the random writes; medians of their ratios are reported (3)
  --seconds S       length of one job of random writes (5)
  --stream-mib N    data of a stream (2048)
  --random-mib N    random writes whose requests are counted (1024)
  --idle S          seconds of rest in which requests are counted (60)
  --quick           one round, one second, 64 MiB, 10 seconds of rest
  --only NAMES      comma-separated: ${PARTS.join(', ')}
  --peers NAMES     s3backer; none: basalt, the bare SDK and a volume without a bucket (s3backer)
  --data DIR        directory for temporary data, on a real disk
  --set KEY=VALUE   a setting of basalt; may be repeated
  --json            print the results as JSON instead of tables
`;

/** Throws `invalid-argument`. Null: the user asked for the usage text. */
export function parseOptions(args: readonly string[]): S3BenchOptions | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      'stream-mib': { type: 'string' },
      'random-mib': { type: 'string' },
      idle: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: PARTS.join(',') },
      peers: { type: 'string', default: 's3backer' },
      data: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  if (values.peers !== 's3backer' && values.peers !== 'none') throw new VolumeError('invalid-argument', `--peers ${values.peers}: s3backer or none`);
  const { quick } = values;
  return {
    parts: parseParts(values.only),
    rounds: positive('rounds', values.rounds, quick ? 1 : 3),
    seconds: positive('seconds', values.seconds, quick ? 1 : 5),
    streamBytes: positive('stream-mib', values['stream-mib'], quick ? 64 : 2048) * MIB,
    randomBytes: positive('random-mib', values['random-mib'], quick ? 64 : 1024) * MIB,
    idleSeconds: positive('idle', values.idle, quick ? 10 : 60),
    withS3backer: values.peers === 's3backer',
    json: values.json,
    dataDirectory: values.data ?? null,
    settings: values.set,
  };
}

function parseParts(text: string): Part[] {
  return text.split(',').map((name) => {
    const part = PARTS.find((candidate) => candidate === name);
    if (part === undefined) throw new VolumeError('invalid-argument', `--only ${name}: one of ${PARTS.join(', ')}`);
    return part;
  });
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value > 0)) throw new VolumeError('invalid-argument', `--${name} ${text}: a number above 0`);
  return value;
}
