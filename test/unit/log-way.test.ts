import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LOG_IO_MODES, LOG_WAYS } from '../../src/base/settings-types.ts';
import { KIB, MIB } from '../../src/base/units.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { wantedLogWay } from '../../src/volume/log-way.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { drawPowerCut } from '../sim/power-cut.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, Scratch, SimMachine, nodeEnv, pattern, readAll, smallArena, smallSettings } from '../support/engine-harness.ts';
import { MemoryLogger } from '../support/fake-world.ts';

const MAPPED = smallSettings({ logIo: 'mmap', logFileBytes: 64 * KIB });
/** Three files hold 14 records of a block each. */
const LAP_BLOCKS = 60;

test('auto is what was measured, or buffered; direct is for strict alone', () => {
  const ways = LOG_IO_MODES.flatMap((logIo) => ([null, 'buffered', 'direct'] as const).map((measured) => [logIo, measured, wantedLogWay(logIo, measured, 'strict'), wantedLogWay(logIo, measured, 'batched')].join(' ')));
  expect(ways).toEqual([
    ...['buffered  buffered buffered', 'buffered buffered buffered buffered', 'buffered direct buffered buffered'],
    ...['direct  direct buffered', 'direct buffered direct buffered', 'direct direct direct buffered'],
    ...['mmap  mmap mmap', 'mmap buffered mmap mmap', 'mmap direct mmap mmap'],
    ...['auto  buffered buffered', 'auto buffered buffered buffered', 'auto direct direct buffered'],
  ]);
});

describe('a volume with a mapped log', () => {
  test('says so, goes round its log through the mappings, and comes back whole after a kill and after a power cut', async () => {
    const machine = new SimMachine(MAPPED);
    await machine.run(async () => {
      await machine.create('/v');
      const first = await machine.open('/v');
      expect(first.status().logWay).toBe('mmap');
      for (let i = 0; i < 2 * LAP_BLOCKS; i += 1) await first.write((i % 8) * BLOCK_BYTES, pattern(i), false);
      machine.restart();

      const second = await machine.open('/v');
      expect(second.recoveredLsn).toBe(2 * LAP_BLOCKS);
      for (let i = 0; i < 8; i += 1) await second.write(i * BLOCK_BYTES, pattern(1000 + i), false);
      await second.flush();
      await second.write(0, pattern(2000), false);
      machine.restart();
      machine.disk.cutPower(drawPowerCut(new SeededRandom(1), machine.disk.unsyncedSequences(), 'nothing-kept'));

      const third = await machine.open('/v');
      const content = await readAll(third);
      expect(content.subarray(0, 8 * BLOCK_BYTES).equals(Buffer.concat(Array.from({ length: 8 }, (_, i) => pattern(1000 + i))))).toBe(true);
      await third.close();
      expect(machine.env.simFiles.openPaths()).toEqual([]);
    });
    const maps = machine.calls.filter(({ kind }) => kind === 'map');
    const copies = machine.calls.filter(({ kind }) => kind === 'copy');
    expect(copies.length).toBeGreaterThan(LAP_BLOCKS);
    expect(maps.map(({ path }) => path)).toEqual([1, 2, 3].flatMap(() => ['/v/log/00.log', '/v/log/01.log', '/v/log/02.log']));
  });

  test.each(['map', 'copy'] as const)('is written plainly, with one warning, when a %s is refused', async (refused) => {
    const machine = new SimMachine(MAPPED);
    machine.fault = ({ kind }) => (kind === refused ? { kind: 'error', code: 'ENOSYS' } : null);
    await machine.run(async () => {
      await machine.create('/v');
      const volume = await machine.open('/v');
      for (let i = 0; i < LAP_BLOCKS; i += 1) await volume.write(0, pattern(i), false);
      expect(volume.status().logWay).toBe('buffered');
      await volume.close();
      expect(machine.env.simFiles.openPaths()).toEqual([]);
    });
    expect(machine.env.simLogger.lines.filter(({ level }) => level === 'warn').map(({ event }) => event)).toEqual(['no-mapped-log']);
  });
});

describe('on this machine', () => {
  let scratch: Scratch;
  beforeEach(() => {
    scratch = new Scratch();
  });
  afterEach(() => scratch.remove());

  test.each(LOG_IO_MODES)('a volume with log_io %s is opened again and again, and keeps what it held', async (logIo) => {
    const settings = smallSettings({ logIo, logFileBytes: 64 * KIB });
    const logger = new MemoryLogger();
    const env = nodeEnv(logger);
    const directory = `${scratch.path}/v`;
    await createVolume({ env, directory, settings, create: { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'strict' } });
    const expected = Buffer.alloc(MIB);
    for (let life = 0; life < 3; life += 1) {
      const volume = await openVolume({ env, directory, settings, arena: smallArena(settings) });
      expect(LOG_WAYS).toContain(volume.status().logWay);
      for (let i = 0; i < LAP_BLOCKS; i += 1) {
        const at = ((i * 37) % 256) * BLOCK_BYTES;
        const bytes = pattern(1 + life * LAP_BLOCKS + i);
        await volume.write(at, bytes, false);
        expected.set(bytes, at);
      }
      expect((await readAll(volume)).equals(expected), `life ${life}`).toBe(true);
      await volume.close();
    }
  });

  test('a set of volumes tells the way that the settings ask for, and what they compress', async () => {
    for (const [logIo, way] of [['direct', 'direct'], ['mmap', 'mmap'], ['buffered', 'buffered']] as const) {
      const settings = smallSettings({ logIo, logCompress: 'lz4', chunkCompress: 'lz4', arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB });
      const volumes = new VolumeSet({ env: nodeEnv(), directory: scratch.path, settings });
      const info = await volumes.create(logIo, { sizeBytes: MIB, blockSizeBytes: BLOCK_BYTES, durability: 'strict' });
      expect([info.logWay, info.measuredLogWay]).toEqual([way, null]);
      expect([info.logCompress, info.chunkCompress]).toEqual(['lz4', 'lz4']);
      const volume = await volumes.acquireVolume(logIo);
      expect(volume.status().logCompressing).toBe(true);
      volumes.release(volume);
      await volumes.close();
    }
  });
});
