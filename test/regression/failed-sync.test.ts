/**
 * A sync of the log that failed parts the page cache from the medium: the kernel takes the pages for written, whatever became
 * of them. A new process reads them, and no sync of its own brings them to the medium: what it counts as durable it must write again (I4).
 */
import { expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { MIB } from '../../src/base/units.ts';
import { withRestartAdvice } from '../../src/volume/volume-files.ts';
import { VolumeSet } from '../../src/volume/volume-set.ts';
import { drawPowerCut } from '../sim/power-cut.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const DIRECTORY = '/volume';

test.each([1, 2, 3, 4, 5, 6, 7, 8])('what is found in the page cache behind a failed sync is durable when it is opened again and flushed (seed %i)', async (seed) => {
  const machine = new SimMachine(undefined, seed);
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const first = await machine.open(DIRECTORY);
    await first.write(0, pattern(1), false);
    await first.flush();
    await first.write(BLOCK_BYTES, pattern(2, 3), false);
    machine.fault = ({ kind, path }) => (kind === 'sync' && path.includes('/log/') ? { kind: 'error', code: 'EIO' } : null);
    await expect(first.flush()).rejects.toThrow(/syncing the log failed/);
    await expect(first.write(0, pattern(3), false)).rejects.toThrow(/takes no more/);
    machine.fault = () => null;
    machine.restart();

    const second = await machine.open(DIRECTORY);
    expect(second.recoveredLsn).toBe(2);
    await second.flush();
    machine.disk.dropForgotten(() => true);
    machine.restart();
    machine.disk.cutPower(drawPowerCut(new SeededRandom(1), machine.disk.unsyncedSequences(), 'nothing-kept'));

    const third = await machine.open(DIRECTORY);
    const found = new Uint8Array(4 * BLOCK_BYTES);
    await third.read(0, found);
    expect(Buffer.compare(found, Buffer.concat([pattern(1), pattern(2, 3)]))).toBe(0);
    await third.close();
  });
});

test.each([1, 2, 3, 4])('a change of the durability mode of a closed volume makes durable what a failed sync left in the page cache (seed %i)', async (seed) => {
  const machine = new SimMachine(smallSettings({ arenaBytes: 32 * MIB, dirtyBytes: 16 * MIB }), seed);
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const first = await machine.open(DIRECTORY);
    await first.write(BLOCK_BYTES, pattern(2, 3), false);
    machine.fault = ({ kind, path }) => (kind === 'sync' && path.includes('/log/') ? { kind: 'error', code: 'EIO' } : null);
    await expect(first.flush()).rejects.toThrow(/syncing the log failed/);
    machine.fault = () => null;
    machine.restart();
    const volumes = new VolumeSet({ env: machine.env, directory: '/', settings: machine.settings });
    await volumes.setDurability('volume', 'strict');
    expect((await volumes.describe('volume')).epoch).toBe(1);
    await volumes.close();
    machine.disk.dropForgotten(() => true);
    machine.restart();
    machine.disk.cutPower(drawPowerCut(new SeededRandom(1), machine.disk.unsyncedSequences(), 'nothing-kept'));

    const again = await machine.open(DIRECTORY);
    expect(again.durability).toBe('strict');
    const found = new Uint8Array(3 * BLOCK_BYTES);
    await again.read(BLOCK_BYTES, found);
    expect(Buffer.compare(found, pattern(2, 3))).toBe(0);
    await again.close();
  });
});

test('a volume that failed rests: it does not wake up to make chunks that it may not make', async () => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: 20 }));
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const volume = await machine.open(DIRECTORY);
    await volume.write(0, pattern(1), false);
    machine.fault = ({ kind, path }) => (kind === 'sync' && path.includes('/log/') ? { kind: 'error', code: 'EIO' } : null);
    await expect(volume.flush()).rejects.toThrow(/syncing the log failed/);
    const before = machine.scheduler.eventsRun;
    await machine.env.clock.sleep(10_000);
    expect(machine.scheduler.eventsRun - before).toBeLessThan(20);
  });
});

test.each<readonly [string, string, RegExp]>([
  ['sync', '/log/', /^syncing the log failed \(EIO[^)]*\): the disk may have lost writes\. /],
  ['write', '/log/', /^writing the log: EIO.*\. /],
  ['rename', '/chunks/', /EIO.*\. /],
])('a volume that failed over a %s of %s says what to check and do, in the log and to whoever asks', async (kind, path, reason) => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: 20 }));
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const volume = await machine.open(DIRECTORY);
    machine.fault = (call) => (call.kind === kind && call.path.includes(path) ? { kind: 'error', code: 'EIO' } : null);
    await volume.write(0, pattern(1), true).catch(() => undefined);
    await machine.env.clock.sleep(1000);
    const failure = volume.status().failure ?? '';
    expect(failure).toMatch(reason);
    expect(failure).toMatch(/Volume volume takes no more writes until the server is restarted; it can still be read\. First find out why the disk failed \(dmesg; .*Then stop the server.* and start it again/);
    expect(machine.env.simLogger.lines.find(({ event }) => event === 'volume-failed')?.fields.error).toMatchObject({ message: failure });
    await expect(volume.write(0, pattern(2), false)).rejects.toMatchObject({ message: failure });
    await volume.close().catch(() => undefined);
  });
});

test('a volume that failed over damage sends its operator to basalt check', () => {
  const error = withRestartAdvice(new VolumeError('corrupt', 'leaf 3 is damaged', { context: { offsetBytes: 96 } }), 'v');
  expect(error).toMatchObject({ code: 'corrupt', context: { offsetBytes: 96 } });
  expect(error.message).toMatch(/^leaf 3 is damaged\. Volume v takes no more writes .*Stop the server, see what basalt check v says/);
});

test('a manifest whose name could not be synced is not taken for a full disk and tried again', async () => {
  const machine = new SimMachine(smallSettings({ checkpointChunks: 1, flushIntervalMs: 20 }));
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const volume = await machine.open(DIRECTORY);
    machine.fault = ({ kind, path }) => (kind === 'sync-directory' && path === DIRECTORY ? { kind: 'error', code: 'ENOSPC' } : null);
    await volume.write(0, pattern(1), true);
    await machine.env.clock.sleep(1000);
    expect(volume.failure?.code).toBe('failed');
    await expect(volume.write(0, pattern(2), false)).rejects.toThrow(/which manifest a power cut leaves is not known/);
    machine.fault = () => null;
    machine.restart();
    const again = await machine.open(DIRECTORY);
    const found = new Uint8Array(BLOCK_BYTES);
    await again.read(0, found);
    expect(Buffer.compare(found, pattern(1))).toBe(0);
    await again.close();
  });
});

test.each(['chunks', 'checkpoints'])('a failed sync in %s is told at once, though giving the file up takes a minute (simulated seed 401954)', async (folder) => {
  const machine = new SimMachine(smallSettings({ flushIntervalMs: 10, checkpointChunks: 1 }));
  await machine.run(async () => {
    await machine.create(DIRECTORY);
    const volume = await machine.open(DIRECTORY);
    machine.fault = ({ kind, path }) => {
      if (!path.includes(`/${folder}/.stage-`)) return null;
      if (kind === 'sync') return { kind: 'error', code: 'EIO' };
      return kind === 'remove' || kind === 'close' ? { kind: 'slow', delayMs: 60_000 } : null;
    };
    await volume.write(0, pattern(1), false);
    await machine.process.sleep(1000);
    expect(volume.failure).toMatchObject({ code: 'io-error' });
    await expect(volume.write(0, pattern(2), false)).rejects.toThrow(/takes no more writes/);
  });
});
