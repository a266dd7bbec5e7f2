/** The benchmark's command line. */
import { parseArgs } from 'node:util';
import { DURABILITY_MODES, isDurability, type Durability } from '../src/base/durability.ts';
import { VolumeError } from '../src/base/errors.ts';
import { MIB, parseSize } from '../src/base/units.ts';
import { JOBS, PEERS, type Job, type Peer } from './jobs.ts';

/** The parts that are not fio jobs of the comparison. */
export const SCENARIOS = ['tls', 'compression', 'bytes', 'rss'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface BenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly mode: Durability;
  readonly peers: readonly Peer[];
  readonly jobs: readonly Job[];
  readonly scenarios: readonly Scenario[];
  readonly regionBytes: number;
  readonly quick: boolean;
  readonly json: boolean;
  /** Where temporary data goes; null: the system's temporary directory if that is a disk. */
  readonly dataDirectory: string | null;
  /** Where processor profiles of basalt go, one run a job; null: no profiles. */
  readonly profileDirectory: string | null;
  /** Handed to `basalt serve` as `--set` options. */
  readonly settings: readonly string[];
}

export const USAGE = `usage: make bench ARGS="..."

  --rounds N      rounds of all jobs against all servers, medians are reported (5)
  --seconds S     length of one job (2)
  --quick         one round of one second, and less data in "compression", "bytes" and "rss"
  --only NAMES    comma-separated: ${[...JOBS.map((job) => job.name), ...SCENARIOS].join(', ')}
                  a prefix names all that begin with it
  --peers NAMES   comma-separated: ${PEERS.join(', ')}; none: basalt alone
  --mode MODE     basalt's durability: ${DURABILITY_MODES.join(', ')} (batched)
  --region SIZE   the jobs stay within the first SIZE bytes of the export (64M)
  --data DIR      directory for temporary data, on a real disk
  --set KEY=VALUE a setting of basalt; may be repeated
  --profile DIR   write a processor profile of basalt for each job to DIR, compare nothing
  --json          print the results as JSON instead of a table
`;

/** Throws `invalid-argument`. Null: the user asked for the usage text. */
export function parseOptions(args: readonly string[]): BenchOptions | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      only: { type: 'string' },
      peers: { type: 'string', default: PEERS.join(',') },
      mode: { type: 'string', default: 'batched' },
      region: { type: 'string' },
      data: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      profile: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  if (!isDurability(values.mode)) throw new VolumeError('invalid-argument', `--mode ${values.mode}: one of ${DURABILITY_MODES.join(', ')}`);
  const wanted = values.only?.split(',') ?? [''];
  const known = [...JOBS.map((job) => job.name), ...SCENARIOS];
  const unknown = wanted.find((name) => !known.some((candidate) => candidate.startsWith(name)));
  if (unknown !== undefined) throw new VolumeError('invalid-argument', `--only ${unknown}: one of ${known.join(', ')}`);
  const isWanted = (name: string): boolean => wanted.some((prefix) => name.startsWith(prefix));
  return {
    rounds: positive('rounds', values.rounds, values.quick ? 1 : 5),
    seconds: positive('seconds', values.seconds, values.quick ? 1 : 2),
    mode: values.mode,
    peers: parsePeers(values.peers),
    jobs: JOBS.filter((job) => isWanted(job.name)),
    scenarios: SCENARIOS.filter(isWanted),
    regionBytes: values.region === undefined ? 64 * MIB : parseSize(values.region),
    quick: values.quick,
    json: values.json,
    dataDirectory: values.data ?? null,
    profileDirectory: values.profile ?? null,
    settings: values.set,
  };
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value > 0)) throw new VolumeError('invalid-argument', `--${name} ${text}: a number above 0`);
  return value;
}

function parsePeers(text: string): Peer[] {
  const names = text === 'none' ? [] : text.split(',');
  return names.map((name) => {
    const peer = PEERS.find((candidate) => candidate === name);
    if (peer === undefined) throw new VolumeError('invalid-argument', `--peers ${name}: ${PEERS.join(', ')} or none`);
    return peer;
  });
}
