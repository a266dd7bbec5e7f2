import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LOG_HEADER_BYTES, LOG_VERSION, RECORD_KIND, encodeLogHeader } from '../../src/format/log-record.ts';
import { BLOCK_BYTES } from '../support/engine-harness.ts';
import type { FakeFile } from '../support/fake-world.ts';
import { LogHarness, ONE_BLOCK_RECORD_BYTES, recover } from '../support/log-harness.ts';
import { text } from '../support/text.ts';

const FILE_BYTES = LOG_HEADER_BYTES + 4 * ONE_BLOCK_RECORD_BYTES;

function recordOffset(index: number): number {
  return LOG_HEADER_BYTES + index * ONE_BLOCK_RECORD_BYTES;
}

function flip(file: FakeFile, offset: number): void {
  const bytes = Buffer.from(file.bytes);
  bytes[offset] ^= 0x10;
  file.replace(bytes);
}

function truncate(file: FakeFile, length: number): void {
  file.replace(file.bytes.subarray(0, length));
}

/** Records 1 to `synced`, synced; then more up to `count`, which say so. */
async function twoPhases(synced: number, count: number, fileBytes = FILE_BYTES): Promise<LogHarness> {
  const harness = new LogHarness({ fileBytes });
  harness.writeRecords(synced);
  await harness.sync();
  harness.writeRecords(count - synced);
  return harness;
}

describe('a whole log', () => {
  test('is replayed record by record, over all its files, with kinds, places and bytes', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.append(7, 2);
    harness.log.appendZero(100, 3000, true);
    harness.writeRecords(6);
    const { replayed, lastLsn, records, lives } = await recover(harness.files);
    expect([lastLsn, records, replayed.length]).toEqual([8, 8, 8]);
    expect(replayed[0]).toMatchObject({ lsn: 1, kind: RECORD_KIND.WRITE, blockNumber: 7, blockCount: 2 });
    expect(replayed[1]).toMatchObject({ lsn: 2, kind: RECORD_KIND.ZERO, blockNumber: 100, blockCount: 3000 });
    expect(lives.map(({ fileIndex, firstLsn, lastLsn: last }) => [fileIndex, firstLsn, last])).toEqual([[0, 1, 4], [1, 5, 8]]);
  });

  test('is read only from where the chunks end, wherever that is', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(10);
    for (let chunkedLsn = 0; chunkedLsn <= 10; chunkedLsn += 1) {
      const { replayed, lastLsn } = await recover(harness.files, { chunkedLsn });
      expect(replayed.map((record) => record.lsn)).toEqual(Array.from({ length: 10 - chunkedLsn }, (_, index) => chunkedLsn + 1 + index));
      expect(lastLsn).toBe(10);
    }
  });

  test('that nothing was ever written to is empty', async () => {
    expect(await recover(new LogHarness().files)).toMatchObject({ lastLsn: 0, records: 0 });
  });

  test('is not changed by reading, and reads the same again', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(6);
    truncate(harness.files[1], harness.files[1].bytes.length - 9);
    const before = harness.files.map((file) => Buffer.from(file.bytes));
    const first = await recover(harness.files);
    expect(harness.files.map((file) => Buffer.from(file.bytes))).toEqual(before);
    expect(await recover(harness.files)).toEqual(first);
  });
});

describe('a torn tail', () => {
  test('a torn last record ends replay at the record before it, wherever it is torn', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(3);
    const [file] = harness.files;
    const whole = Buffer.from(file.bytes);
    for (const kept of [1, 4, 63, 64, 71, 72, 73, 512, 4095, ONE_BLOCK_RECORD_BYTES - 1]) {
      file.replace(whole.subarray(0, recordOffset(2) + kept));
      expect((await recover(harness.files)).lastLsn, `${kept} bytes`).toBe(2);
    }
  });

  test('any single flipped bit of unsynced records gives a prefix, never other bytes', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(4);
    const [file] = harness.files;
    const whole = Buffer.from(file.bytes);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: LOG_HEADER_BYTES, max: whole.length - 1 }), fc.integer({ min: 0, max: 7 }), async (at, bit) => {
        const bytes = Buffer.from(whole);
        bytes[at] ^= 1 << bit;
        file.replace(bytes);
        const { lastLsn, replayed } = await recover(harness.files);
        // `recover` compares the content of each record with what was written.
        expect(lastLsn).toBe(Math.floor((at - LOG_HEADER_BYTES) / ONE_BLOCK_RECORD_BYTES));
        expect(replayed.length).toBe(lastLsn);
      }),
      { numRuns: 100 },
    );
  });

  test('with valid records behind it is still a torn tail while none of them says that the lost one was synced', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(8);
    flip(harness.files[0], recordOffset(1) + 200);
    const { lastLsn, end } = await recover(harness.files);
    expect(lastLsn).toBe(1);
    expect(end).toBe(`log file 0, byte ${recordOffset(1)}, expected LSN 2: wrong block checksum`);
  });
});

describe('damage', () => {
  test('a missing record that a later one calls durable is named with file, byte and LSN', async () => {
    const { files } = await twoPhases(2, 4);
    flip(files[0], recordOffset(1) + 200);
    await expect(recover(files)).rejects.toMatchObject({
      code: 'corrupt',
      message: text(new RegExp(`log file 0, byte ${recordOffset(1)}, expected LSN 2: wrong block checksum; but log file 0, byte ${recordOffset(2)}, says.*up to LSN 2 had been synced`)),
      context: { expectedLsn: 2, durableLsn: 2, fileIndex: 0, offsetBytes: recordOffset(2) },
    });
  });

  test('is found when only the header of a later life says it', async () => {
    const harness = await twoPhases(4, 5);
    truncate(harness.files[1], LOG_HEADER_BYTES);
    flip(harness.files[0], recordOffset(3));
    await expect(recover(harness.files)).rejects.toMatchObject({ code: 'corrupt', context: { expectedLsn: 4, fileIndex: 1, offsetBytes: 0 } });
  });

  test('is found when the first file that is needed is empty', async () => {
    const harness = await twoPhases(4, 6);
    harness.files[0].replace(new Uint8Array(0));
    await expect(recover(harness.files)).rejects.toMatchObject({ code: 'corrupt', message: text('no log file begins at or before the first record') });
  });

  test('of records that the chunks hold does not matter', async () => {
    const { files } = await twoPhases(2, 4);
    flip(files[0], recordOffset(0) + 200);
    expect((await recover(files, { chunkedLsn: 2 })).replayed.map((record) => record.lsn)).toEqual([3, 4]);
  });

  test.each([0, 8, 20, 40, 60, 70])('in the header of the only file, byte %i, is found when records behind it say that they were synced', async (at) => {
    const { files } = await twoPhases(2, 4);
    flip(files[0], at);
    await expect(recover(files)).rejects.toMatchObject({
      code: 'corrupt',
      message: text(/the header of log file 0, byte 0, is not valid: (wrong magic|checksum [0-9a-f]{8}, expected [0-9a-f]{8})/),
      context: { expectedLsn: 1, durableLsn: 2, fileIndex: 0, offsetBytes: recordOffset(2) },
    });
  });

  test('in a header does not matter when the chunks hold what stood behind it', async () => {
    const { files } = await twoPhases(2, 4);
    flip(files[0], 20);
    expect((await recover(files, { chunkedLsn: 4 })).lastLsn).toBe(4);
  });

  test('a header that never reached the disk is damage when the records behind it say that they were synced', async () => {
    const { files } = await twoPhases(2, 4);
    const bytes = Buffer.from(files[0].bytes);
    files[0].replace(bytes.fill(0, 0, LOG_HEADER_BYTES));
    await expect(recover(files)).rejects.toMatchObject({ code: 'corrupt' });
  });

  test('a header that never reached the disk is a torn tail when they do not', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(3);
    harness.files[0].replace(Buffer.from(harness.files[0].bytes).fill(0, 0, LOG_HEADER_BYTES));
    expect((await recover(harness.files)).lastLsn).toBe(0);
  });

  test('a file in the wrong place of the ring is refused with its number', async () => {
    const [a, b, c] = (await twoPhases(4, 6)).files;
    await expect(recover([b, a, c])).rejects.toMatchObject({ code: 'corrupt', message: text(/log file 0: is file 1 of the ring, expected 0, at byte 0/) });
  });

  test('a file of another volume is refused with its number', async () => {
    const { files } = await twoPhases(4, 6);
    const header = { version: LOG_VERSION.PLAIN, blockSizeBytes: BLOCK_BYTES, generation: 2 ** 24, firstLsn: 1, durableLsn: 0, epoch: 1, fileIndex: 2, previousGeneration: 0, volumeId: new Uint8Array(16) };
    files[2].replace(encodeLogHeader(header));
    await expect(recover(files)).rejects.toMatchObject({ code: 'corrupt', message: text(/log file 2: belongs to another volume, at byte 0/) });
  });
});

describe('an older life of a file', () => {
  test('records of it are never taken for new ones', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(12);
    harness.log.recycleTo(4);
    harness.writeRecords(1); // file 0 begins its second life; records 2 to 4 of the first still stand behind record 13
    const { lastLsn, replayed } = await recover(harness.files, { chunkedLsn: 4 });
    expect(lastLsn).toBe(13);
    expect(replayed.at(-1)).toMatchObject({ lsn: 13 });
    expect(harness.files[0].bytes.length).toBe(FILE_BYTES);
  });

  test('is found in its file when the header of the new life was lost, and changes nothing', async () => {
    const harness = new LogHarness({ fileBytes: FILE_BYTES });
    harness.writeRecords(12);
    const old = Buffer.from(harness.files[0].bytes);
    harness.log.recycleTo(4);
    harness.writeRecords(1);
    harness.files[0].replace(old);
    expect((await recover(harness.files, { chunkedLsn: 4 })).lastLsn).toBe(12);
  });
});

describe('a dead timeline', () => {
  test('gives no record to a later life that began with the same LSN and lost its own', async () => {
    const first = new LogHarness({ fileBytes: FILE_BYTES });
    first.writeRecords(2);
    const second = new LogHarness({ fileBytes: FILE_BYTES, epoch: 2 });
    second.writeRecords(1);
    const [file] = first.files;
    file.replace(Buffer.concat([second.files[0].bytes.subarray(0, LOG_HEADER_BYTES), file.bytes.subarray(LOG_HEADER_BYTES)]));
    const { lastLsn, end } = await recover(first.files, { cut: { epoch: 2, lsn: 0 } });
    expect(lastLsn).toBe(0);
    expect(end).toMatch(/record of generation 16777216, not 33554432/);
  });

  test('ends where a later epoch began, whatever valid records stand behind', async () => {
    const first = new LogHarness({ fileBytes: FILE_BYTES });
    first.writeRecords(7);
    const cutOff = await recover(first.files);
    // Opened with records 1 to 5 only, as if 6 and 7 had been unreadable then; epoch 2 writes its own record 6.
    const lives = cutOff.lives.map((life) => ({ ...life, lastLsn: Math.min(life.lastLsn, 5) }));
    const second = new LogHarness({ fileBytes: FILE_BYTES, files: first.files, epoch: 2, lastLsn: 5, lives });
    second.append(77);
    second.log.submit();
    const { replayed, lastLsn } = await recover(first.files, { cut: { epoch: 2, lsn: 5 } });
    expect(lastLsn).toBe(6);
    expect(replayed.at(-1)).toMatchObject({ lsn: 6, blockNumber: 77 });
  });

  test('stays dead when the records that took its place are lost, too', async () => {
    const first = new LogHarness({ fileBytes: FILE_BYTES });
    first.writeRecords(7);
    expect((await recover(first.files)).lastLsn).toBe(7);
    expect((await recover(first.files, { cut: { epoch: 2, lsn: 5 } })).lastLsn).toBe(5);
    expect((await recover(first.files, { cut: { epoch: 1, lsn: 5 } })).lastLsn).toBe(7); // its own epoch goes on
  });
});

test('a gap among records that the chunks hold is passed over', async () => {
  const harness = new LogHarness({ fileBytes: FILE_BYTES });
  harness.writeRecords(4);
  const [file] = harness.files;
  for (const lost of [0, 1, 2]) {
    const whole = Buffer.from(file.bytes);
    file.replace(Buffer.from(whole).fill(0, recordOffset(lost), recordOffset(lost + 1)));
    expect((await recover(harness.files, { chunkedLsn: 3 })).replayed.map((record) => record.lsn)).toEqual([4]);
    file.replace(whole);
  }
});
