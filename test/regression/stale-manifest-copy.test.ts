/**
 * The copy of the manifest is not synced: a power cut may leave one that does not know of the last opening, nor where that cut the log off. Records
 * that were dead by then came back in the place of what had been flushed since.
 */
import { expect, test } from 'vitest';
import { KIB } from '../../src/base/units.ts';
import { repairVolume } from '../../src/volume/repair.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { flipped, toolOptions } from '../support/damaged-volumes.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const SETTINGS = smallSettings({ logFileBytes: 64 * KIB, logFileCount: 3 });
const LOG = '/v/log/00.log';
const MAGIC = 'BLR1';

function write(volume: Volume, block: number, seed: number): Promise<void> {
  return volume.write(block * BLOCK_BYTES, pattern(seed), false);
}

async function seedOf(volume: Pick<Volume, 'read'>, block: number): Promise<number> {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  await volume.read(block * BLOCK_BYTES, bytes);
  for (let seed = 1; seed < 100; seed += 1) if (bytes.equals(pattern(seed))) return seed;
  return 0;
}

interface Lives {
  readonly after: Map<string, Buffer>;
  /** The first life's. */
  readonly oldManifest: Buffer;
}

async function twoLives(): Promise<Lives> {
  const before = new SimMachine(SETTINGS);
  const machine = new SimMachine(SETTINGS);
  await before.run(async () => {
    await before.create('/v');
    const first = await before.open('/v');
    await write(first, 0, 1);
    await first.flush();
    // Never flushed: a power cut takes the first of these, the others stay.
    for (let i = 0; i < 6; i += 1) await write(first, i % 2, 10 + i);
    before.restart();
    const lost = before.bytesOf(LOG).indexOf(MAGIC, before.bytesOf(LOG).indexOf(MAGIC) + 1);
    before.disk.write(before.disk.findFile(LOG), Buffer.alloc(64), lost);
  });
  const files = before.snapshot('/v');
  await before.run(async () => {
    const second = await before.open('/v');
    await write(second, 0, 20);
    await write(second, 1, 21);
    await second.close();
  });
  // After the close the power fails: its chunks, checkpoint and manifest are durable, what of the log and of the copy was not synced is not there.
  const after = new Map(before.snapshot('/v'));
  for (const name of [...after.keys()].filter((key) => key.startsWith('log/'))) after.set(name, files.get(name) ?? Buffer.alloc(0));
  after.set('manifest-copy', files.get('manifest-copy') ?? Buffer.alloc(0));
  await machine.run(async () => {
    machine.load('/v', after);
    const sound = await machine.open('/v');
    expect([await seedOf(sound, 0), await seedOf(sound, 1)]).toEqual([20, 21]);
    machine.restart();
  });
  return { after, oldManifest: files.get('manifest') ?? Buffer.alloc(0) };
}

test('records that an opening cut off stay dead, though the copy that a repair goes by is older than that opening', async () => {
  const { after } = await twoLives();
  const rotten = new SimMachine(SETTINGS);
  await rotten.run(async () => {
    rotten.load('/v', new Map(after).set('manifest', flipped(after.get('manifest') ?? Buffer.alloc(0), 77)));
    const report = await repairVolume({ ...toolOptions(rotten), settings: SETTINGS, apply: true, uncertain: 'lost' });
    expect(report).toMatchObject({ state: 'repaired', lost: [] });
    const volume = await rotten.open('/v');
    expect([await seedOf(volume, 0), await seedOf(volume, 1)]).toEqual([20, 21]);
    await volume.close();
  });
});

test('a manifest that is older than the chunks or the checkpoint is refused, though no log file tells; a repair brings nothing dead back', async () => {
  const { after, oldManifest } = await twoLives();
  for (const folder of ['chunks/', 'checkpoints/']) {
    const machine = new SimMachine(SETTINGS);
    await machine.run(async () => {
      machine.load('/v', new Map([...after].filter(([name]) => folder === 'chunks/' || !name.startsWith('chunks/'))).set('manifest', oldManifest));
      await expect(machine.open('/v')).rejects.toThrow(/the manifest is older than (?:chunks|checkpoints)\/\S+: it knows of epochs up to 1, that is of epoch 2/u);
      if (folder !== 'chunks/') return;
      expect(await repairVolume({ ...toolOptions(machine), settings: SETTINGS, apply: true, uncertain: 'lost' })).toMatchObject({ state: 'repaired', lost: [] });
      const volume = await machine.open('/v');
      expect([await seedOf(volume, 0), await seedOf(volume, 1)]).toEqual([20, 21]);
      await volume.close();
    });
  }
});

test('a mark that is newer than the manifest does not count any more once the volume is repaired', async () => {
  const machine = new SimMachine(SETTINGS);
  let manifest: Uint8Array = new Uint8Array(0);
  await machine.run(async () => {
    await machine.create('/v');
    for (let life = 1; life <= 2; life += 1) {
      const volume = await machine.open('/v');
      if (life === 1) manifest = machine.bytesOf('/v/manifest');
      await write(volume, 0, life);
      await volume.flush();
      await machine.process.sleep(100);
      machine.restart();
    }
  });
  const damaged = new SimMachine(SETTINGS);
  await damaged.run(async () => {
    damaged.load('/v', new Map(machine.snapshot('/v')).set('manifest', Buffer.from(manifest)).set('log/01.log', Buffer.alloc(0)));
    await expect(damaged.open('/v')).rejects.toThrow(/the mark beside/u);
    expect(await repairVolume({ ...toolOptions(damaged), settings: SETTINGS, apply: true, uncertain: 'lost' })).toMatchObject({ state: 'repaired' });
    const volume = await damaged.open('/v');
    await volume.close();
  });
});
