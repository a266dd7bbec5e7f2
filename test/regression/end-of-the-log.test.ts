/**
 * The last records of a log have no later one that could say they had been durable: damage to them looked like a torn tail, and older data was
 * served as if nothing were missing. The mark says it for them.
 */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { decodeSyncedMark } from '../../src/format/synced-mark.ts';
import type { FileCall } from '../sim/faults.ts';
import { BLOCK_BYTES, SimMachine, pattern, readAll } from '../support/engine-harness.ts';
import { type VolumeFiles, check, fileOf, flipped, machineWith, repair, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { SAMPLE_SETTINGS } from '../support/make-sample.ts';

const LOG = 'log/00.log';
const MARK = 'log/synced';
/** Longer than from a sync to the mark. */
const REST_MS = 60;

interface Flushed {
  readonly files: VolumeFiles;
  /** Where the last record begins and ends. */
  readonly start: number;
  readonly end: number;
  readonly content: Buffer;
}

/** A volume of which a process was killed some time after its last write was flushed. */
async function flushed(durability: 'strict' | 'batched' | 'relaxed' = 'batched'): Promise<Flushed> {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  let content = Buffer.alloc(0);
  await machine.run(async () => {
    await machine.create('/v', { durability });
    const volume = await machine.open('/v');
    for (let block = 0; block < 4; block += 1) await volume.write(block * BLOCK_BYTES, pattern(block), false);
    await volume.flush();
    await volume.write(0, pattern(77), false);
    await volume.flush();
    content = Buffer.from(await readAll(volume));
    await machine.process.sleep(REST_MS);
    machine.restart();
  });
  const files = machine.snapshot('/v');
  const log = fileOf(files, LOG);
  return { files, start: log.lastIndexOf('BLR1'), end: log.length, content };
}

/** How a damaged volume opens: not, with all its content, or with something older. */
async function opening(files: VolumeFiles, content: Buffer): Promise<VolumeError['code'] | 'whole' | 'older'> {
  const machine = machineWith(files);
  return machine.run(async () => {
    const opened = await tryOpen(machine);
    if (opened instanceof VolumeError) return opened.code;
    const found = await readAll(opened);
    await opened.close();
    return found.equals(content) ? 'whole' : 'older';
  });
}

function isMark({ kind, path }: FileCall): boolean {
  return kind === 'write' && path.endsWith(MARK);
}

describe.each(['strict', 'batched', 'relaxed'] as const)('damage to the last flushed record of a %s volume', (durability) => {
  test('is found, whichever byte it is', async () => {
    const { files, start, end, content } = await flushed(durability);
    const places = Array.from({ length: end - start }, (_, index) => start + index).filter((at) => at < start + 160 || at % 97 === 0);
    for (const at of places) expect(await opening(withFile(files, LOG, flipped(fileOf(files, LOG), at)), content), `byte ${at - start}`).toBe('corrupt');
  });

  test('is found where the file is cut', async () => {
    const { files, start, end, content } = await flushed(durability);
    for (const length of [0, 512, 4096, start, start + 64, end - 1]) {
      const cut = withFile(files, LOG, Buffer.from(fileOf(files, LOG).subarray(0, length)));
      expect(await opening(cut, content), `${length} bytes`).toBe('corrupt');
      const machine = machineWith(cut);
      const report = await machine.run(() => check(machine));
      expect(report.isClean, `${length} bytes`).toBe(false);
      expect(JSON.stringify(report.findings), `${length} bytes`).toMatch(/the mark beside the log's files says that records up to LSN 5 had been synced/u);
    }
  });
});

test('after a repair that sets the volume back the mark does not count any more', async () => {
  const { files, start } = await flushed();
  const machine = machineWith(withFile(files, LOG, Buffer.from(fileOf(files, LOG).subarray(0, start))));
  await machine.run(async () => {
    expect(await repair(machine)).toMatchObject({ state: 'repaired' });
    const volume = await machine.open('/v');
    const block = Buffer.alloc(BLOCK_BYTES);
    await volume.read(0, block);
    expect(block.equals(pattern(0))).toBe(true);
    await volume.close();
    expect((await check(machine)).isClean).toBe(true);
  });
});

test.each<[string, (files: VolumeFiles) => VolumeFiles]>([
  ['missing', (files) => withFile(files, MARK, null)],
  ['empty', (files) => withFile(files, MARK, Buffer.alloc(0))],
  ['torn', (files) => withFile(files, MARK, fileOf(files, MARK).subarray(0, 17))],
  ['rotten', (files) => withFile(files, MARK, flipped(fileOf(files, MARK), 41))],
  ['longer', (files) => withFile(files, MARK, Buffer.concat([fileOf(files, MARK), Buffer.alloc(9)]))],
])('a mark that is %s is no trouble: a sound volume is whole', async (_, change) => {
  const { files, content } = await flushed();
  expect(await opening(change(files), content)).toBe('whole');
});

test('a mark that cannot be written costs a warning and nothing else', async () => {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    machine.fault = (call) => (isMark(call) ? { kind: 'error', code: 'EIO' } : null);
    for (let round = 0; round < 3; round += 1) {
      await volume.write(0, pattern(round), true);
      await machine.process.sleep(REST_MS);
    }
    expect(machine.calls.filter(isMark).length, 'it is tried once').toBe(1 + 1);
    expect(volume.failure).toBeNull();
    await volume.close();
  });
});

test('many syncs make few marks, and a volume at rest none', async () => {
  const machine = new SimMachine(SAMPLE_SETTINGS);
  await machine.run(async () => {
    await machine.create('/v');
    const volume = await machine.open('/v');
    const marks = (): number => machine.calls.filter(isMark).length;
    const before = marks();
    for (let i = 0; i < 100; i += 1) await volume.write((i % 8) * BLOCK_BYTES, pattern(i), true);
    await machine.process.sleep(REST_MS);
    expect(marks() - before).toBeLessThan(3);
    const atRest = marks();
    await machine.process.sleep(100 * REST_MS);
    expect(marks()).toBeLessThanOrEqual(atRest + 1);
    expect(decodeSyncedMark(machine.bytesOf(`/v/${MARK}`))).toMatchObject({ epoch: 1, lsn: 100 });
    await volume.close();
  });
});
