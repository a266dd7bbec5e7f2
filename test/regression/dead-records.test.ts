/**
 * Records behind the end of a log are dead once the volume was opened without them, and later ones have their LSNs. When the file of those later ones
 * lost its header, the dead ones were taken for them: a volume was opened with what nobody had flushed in the place of what had been.
 */
import { expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { type VolumeFiles, fileOf, flipped, toolOptions, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { repairVolume } from '../../src/volume/repair.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';
import type { Volume } from '../../src/volume/volume.ts';

const SETTINGS = smallSettings({ logFileBytes: 64 * KIB, logFileCount: 3 });
const LAST = 'log/02.log';
const FIRST = 'log/00.log';
const MAGIC = 'BLR1';
/** Of what is written, and lost, in the first life. */
const DEAD = 500;

function write(volume: Volume, block: number, seed: number): Promise<void> {
  return volume.write(block * BLOCK_BYTES, pattern(seed), false);
}

function recordsOf(bytes: Buffer): number[] {
  const found: number[] = [];
  for (let at = bytes.indexOf(MAGIC); at >= 0; at = bytes.indexOf(MAGIC, at + 1)) found.push(at);
  return found;
}

async function seedOf(volume: Pick<Volume, 'read'>, block: number): Promise<number> {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  await volume.read(block * BLOCK_BYTES, bytes);
  for (let seed = 1; seed < 600; seed += 1) if (bytes.equals(pattern(seed))) return seed;
  return 0;
}

/**
 * A volume in whose first life the last file of the ring has such records; it was closed, so that the ring began with its first file again, and what was
 * flushed in two lives after that is in no chunk.
 */
async function filesAfterLives(): Promise<VolumeFiles> {
  const machine = new SimMachine(SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    const first = await machine.open('/v');
    for (let i = 0; recordsOf(machine.snapshot('/v').get(LAST) ?? Buffer.alloc(0)).length < 2; i += 1) await write(first, 10 + (i % 10), 1 + i);
    await first.flush();
    // Never flushed: a power cut takes the first of these, the others stay.
    for (let i = 0; i < 8; i += 1) await write(first, i % 2, DEAD + i);
    machine.restart();
    const last = machine.bytesOf(`/v/${LAST}`);
    const lost = recordsOf(last)[2];
    machine.disk.write(machine.disk.findFile(`/v/${LAST}`), Buffer.alloc(64), lost);
    const second = await machine.open('/v');
    for (let i = 0; i < 3; i += 1) await write(second, 5 + i, 300 + i);
    await second.close();
    const third = await machine.open('/v');
    await write(third, 0, 401);
    await write(third, 1, 402);
    await third.flush();
    machine.restart();
    const fourth = await machine.open('/v');
    await write(fourth, 2, 403);
    await fourth.flush();
    await machine.process.sleep(100);
    machine.restart();
    const again = await machine.open('/v');
    expect([await seedOf(again, 0), await seedOf(again, 1), await seedOf(again, 2)]).toEqual([401, 402, 403]);
    machine.restart();
  });
  return machine.snapshot('/v');
}

function machineOf(files: VolumeFiles): SimMachine {
  const machine = new SimMachine(SETTINGS);
  machine.load('/v', files);
  return machine;
}

async function expectNoDeadRecords(change: (log: Buffer) => Buffer): Promise<void> {
  const files = await filesAfterLives();
  const machine = machineOf(withFile(files, FIRST, change(fileOf(files, FIRST))));
  await machine.run(async () => {
    const opened = await tryOpen(machine);
    const found = opened instanceof VolumeError ? opened.code : [await seedOf(opened, 0), await seedOf(opened, 1), await seedOf(opened, 2)].join();
    expect(found).toBe('corrupt');
    await repairVolume({ ...toolOptions(machine), settings: SETTINGS, apply: true, uncertain: 'lost' });
    const volume = await machine.open('/v');
    for (const block of [0, 1]) expect(await seedOf(volume, block), `block ${block}, repaired`).toBeLessThan(DEAD);
    await volume.close();
  });
}

test('of another history are not taken for those of a file whose header is damaged', () => expectNoDeadRecords((log) => flipped(log, 20)));

// Nothing in the file says any more that there was a later life: the header of the one that follows does.
test('nor for those of a file that is nothing but zeroes', () => expectNoDeadRecords((log) => Buffer.alloc(log.length)));
test('nor for those of a file that is empty', () => expectNoDeadRecords(() => Buffer.alloc(0)));
