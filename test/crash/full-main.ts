/**
 * `make crash-full RUNS=100`: lets a server's file system run full, kills it with SIGKILL while it is, starts it anew while it still is, makes
 * room, and checks at each step that everything acknowledged is there and that writes go on. Needs root.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Durability } from '../../src/base/durability.ts';
import { MIB } from '../../src/base/units.ts';
import { type NbdClient, NbdOptionError } from '../support/nbd-client.ts';
import { FullDisk } from './full-disk.ts';
import { SeededRandom } from './random.ts';
import { mountSmallDisk, type SmallDiskKind } from './small-disk.ts';

const USAGE = `usage: make crash-full RUNS=100 ARGS="..."

  --runs N   how often a file system runs full (100); tmpfs and ext4 on a loop device in turn
  --seed N   of what varies: the room, the mode, the moments (random)
`;

const { values } = parseArgs({ options: { runs: { type: 'string', default: '100' }, seed: { type: 'string' }, help: { type: 'boolean', default: false } } });

const DISK_BYTES = 128 * MIB;
const VOLUME_BYTES = 256 * MIB;
const ENOSPC = 28;
// Not async: a kill may take what it acknowledged (see campaign.ts).
const MODES: readonly [Durability, ...Durability[]] = ['strict', 'batched', 'relaxed'];

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const runs = Number(values.runs);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
  if (!Number.isSafeInteger(runs) || runs <= 0 || !Number.isSafeInteger(seed)) throw new Error('--runs and --seed take whole numbers');
  process.stdout.write(`full disks: ${runs} runs, seed ${seed}\n`);
  const random = new SeededRandom(seed);
  for (let run = 1; run <= runs; run += 1) process.stdout.write(`run ${run}/${runs}: ${await fullOnce(run % 2 === 0 ? 'ext4' : 'tmpfs', random)}\n`);
  process.stdout.write(`${runs} runs, nothing acknowledged was lost, and all went on when there was room\n`);
}

/** One run on a disk of its own; says what happened. */
async function fullOnce(kind: SmallDiskKind, random: SeededRandom): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'basalt-full-'));
  const disk = await mountSmallDisk(kind, directory, DISK_BYTES);
  if (typeof disk === 'string') throw new Error(disk);
  // Below 32 MiB the log itself finds no room, above it a chunk or a checkpoint.
  const roomBytes = (4 + random.below(84)) * MIB;
  const mode = random.pick(MODES);
  const full = new FullDisk({ path: disk.path, socketPath: join(directory, 'nbd.sock'), entry: resolve('dist/cli/basalt.cjs'), sizeBytes: VOLUME_BYTES, mode });
  try {
    await full.create(roomBytes);
    return `${kind}, ${mode}, ${roomBytes / MIB} MiB of room: ${await crashWhileFull(full, random)}`;
  } finally {
    await full.kill();
    await disk.unmount();
    await rm(directory, { recursive: true });
  }
}

async function crashWhileFull(full: FullDisk, random: SeededRandom): Promise<string> {
  let client = await full.serve();
  const { offsetBytes, errno } = await full.fill(client);
  if (errno !== ENOSPC) throw new Error(`a full disk was reported as NBD error ${errno}, expected ${ENOSPC}`);
  if (random.chance(0.5)) await verify(full, client, 'while the disk is full');
  else await delay(random.below(300));
  await full.kill();
  await client.cut();

  const stillFull = await openWhileFull(full);
  if (stillFull !== null) {
    await verify(full, stillFull, 'after a kill, the disk still full');
    if (random.chance(0.5)) await full.fill(stillFull); // whatever it answers: nothing may get lost by it
  }
  // A client that got it for reading keeps it so; whoever comes when there is room gets it for writing.
  const isReadOnly = stillFull !== null && (await full.isReadOnly(stillFull));
  const hadRoomWhileServing = stillFull !== null && !isReadOnly && random.chance(0.5);
  if (hadRoomWhileServing) {
    await full.makeRoom();
    client = stillFull;
  } else {
    await full.kill();
    await stillFull?.cut();
    await full.makeRoom();
    client = await full.serve();
    await verify(full, client, 'after a kill, with room');
  }
  await full.writeOn(client, Math.min(offsetBytes, VOLUME_BYTES - 4 * MIB), 16);
  await client.flush();
  await full.kill();
  await client.cut();
  client = await full.serve();
  await verify(full, client, 'after writes went on and another kill');
  await client.close();
  const how = await full.stop();
  if (how !== 0) throw new Error(`the server ended with ${how} after SIGTERM`);
  return `full after ${(offsetBytes / MIB).toFixed(1)} MiB, ${stillFull === null ? 'not opened while full' : `opened${isReadOnly ? ' for reading' : ''} while full`}, room ${hadRoomWhileServing ? 'while serving' : 'after a kill'}`;
}

/** A full disk may keep a volume from being opened (an epoch is written), but only by saying so. */
async function openWhileFull(full: FullDisk): Promise<NbdClient | null> {
  try {
    return await full.serve();
  } catch (error) {
    if (error instanceof NbdOptionError && /space/.test(error.message)) return null;
    throw error;
  }
}

async function verify(full: FullDisk, client: NbdClient, when: string): Promise<void> {
  const problems = await full.problems(client);
  if (problems.length > 0) throw new Error(`${when}: ${problems.length} blocks are wrong:\n${problems.slice(0, 10).join('\n')}`);
}

main().catch((error: unknown) => {
  process.stderr.write(`crash-full: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
