import { describe, expect, test } from 'vitest';
import type { File } from '../../src/env/env.ts';
import { LOG_HEADER_BYTES, recordSeed } from '../../src/format/log-record.ts';
import { LogFileReader, WindowBuffers } from '../../src/wal/log-file-reader.ts';
import { MIB } from '../../src/base/units.ts';
import { BLOCK_BYTES } from '../support/engine-harness.ts';
import { FakeFile } from '../support/fake-world.ts';
import { LogHarness, VOLUME_ID, recover } from '../support/log-harness.ts';

const CONTEXT = { blockSizeBytes: BLOCK_BYTES, seed: recordSeed(VOLUME_ID) };

/** A log in one file, of records of so many blocks each. */
async function logOf(blockCounts: readonly number[], blockBytes = BLOCK_BYTES): Promise<FakeFile> {
  const harness = new LogHarness({ fileBytes: 64 * MIB, blockBytes, settings: { logInlineBytes: 64 * MIB } });
  for (const blockCount of blockCounts) harness.append(0, blockCount);
  await harness.sync();
  return harness.files[0];
}

/** The file, which does to its reads what `onRead` says. */
class WatchedFile extends FakeFile {
  underWay = 0;
  onRead: (offsetBytes: number) => void = () => undefined;

  constructor(content: FakeFile) {
    super();
    this.replace(content.bytes);
  }

  override async read(target: Uint8Array, offsetBytes: number): Promise<number> {
    this.underWay += 1;
    await new Promise((resolve) => setImmediate(resolve));
    this.underWay -= 1;
    this.onRead(offsetBytes);
    return super.read(target, offsetBytes);
  }
}

function readerOf(file: File, sizeBytes: number): LogFileReader {
  return new LogFileReader({ file, sizeBytes }, CONTEXT, new WindowBuffers());
}

/** LSNs of the records from the first to one that is not whole, and why that is not. */
async function recordsOf(reader: LogFileReader): Promise<{ lsns: number[]; end: string }> {
  const lsns: number[] = [];
  let offset = LOG_HEADER_BYTES;
  while ((await reader.recordAt(offset)) === 'valid') {
    lsns.push(reader.record.lsn);
    offset = reader.endOffset;
  }
  await reader.end();
  return { lsns, end: reader.record.reason };
}

describe('records that lie in two windows', () => {
  test.each([
    ['of one block', BLOCK_BYTES, Array<number>(2000).fill(1)],
    ['longer than what is carried over', BLOCK_BYTES, [255, 256, 256, 256, 256, 256]],
    ['longer than a window', 65_536, [1, 40, 1, 200, 30, 1]],
    ['of many lengths', BLOCK_BYTES, Array.from({ length: 150 }, (_, index) => 1 + ((index * 37) % 90))],
  ])('are read whole, and in order: %s', async (_name, blockBytes, blockCounts) => {
    const { replayed } = await recover([await logOf(blockCounts, blockBytes), new FakeFile(), new FakeFile()], { blockBytes });
    expect(replayed.map(({ blockCount }) => blockCount)).toEqual(blockCounts);
  });

  test('are found behind bytes that are none', async () => {
    const file = await logOf(Array<number>(2000).fill(1));
    const reader = readerOf(file, file.bytes.length);
    const found: number[] = [];
    for (let at = await reader.nextCandidate(LOG_HEADER_BYTES); at >= 0; at = await reader.nextCandidate(at + 8)) {
      if ((await reader.recordAt(at)) === 'valid') found.push(reader.record.lsn);
    }
    await reader.end();
    expect(found).toEqual(Array.from({ length: 2000 }, (_, index) => index + 1));
  });
});

describe('what is read ahead', () => {
  test('is not under way any more when the reader has ended', async () => {
    const file = new WatchedFile(await logOf(Array<number>(2000).fill(1)));
    const reader = readerOf(file, file.bytes.length);
    expect(await reader.recordAt(LOG_HEADER_BYTES)).toBe('valid');
    expect(file.underWay).toBe(1);
    await reader.end();
    expect(file.underWay).toBe(0);
  });

  test('may fail unless it is needed', async () => {
    const file = new WatchedFile(await logOf(Array<number>(2000).fill(1)));
    file.onRead = (offsetBytes) => {
      if (offsetBytes > 0) throw new Error(`cannot read at ${offsetBytes}`);
    };
    const unneeded = readerOf(file, file.bytes.length);
    await unneeded.recordAt(0);
    await expect(unneeded.end()).resolves.toBeUndefined();
    const needed = readerOf(file, file.bytes.length);
    await needed.recordAt(0);
    await expect(recordsOf(needed)).rejects.toThrow('cannot read at 2097152');
  });

  test('ends with the file, also with one that has become shorter', async () => {
    const content = await logOf(Array<number>(2000).fill(1));
    const file = new WatchedFile(content);
    file.replace(content.bytes.subarray(0, 3 * MIB));
    const { lsns, end } = await recordsOf(readerOf(file, content.bytes.length));
    expect(lsns).toHaveLength(Math.floor((3 * MIB - LOG_HEADER_BYTES) / (BLOCK_BYTES + 72)));
    expect(end).toBe('the file ends within the record');
  });
});
