/**
 * A real small volume with one byte of one file changed, one file missing, cut, or taken from another volume (`support/byte-flips.ts` has
 * the rules). Here a sample of the bytes; all of them with `make byte-flip`.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DamagedSample, NEWEST_CHUNK, STATES, problemsOf } from '../support/byte-flips.ts';
import { SAMPLE_FILES } from '../support/make-sample.ts';
import { type VolumeFiles, fileOf, sampleFiles, withFile } from '../support/damaged-volumes.ts';

/** Of how many bytes one is changed, but for the first and last of a file, where the structures stand. */
const STEP = 397;
const EDGE_BYTES = 24;

let sample: DamagedSample;
let mine: VolumeFiles;
let other: VolumeFiles;

beforeAll(async () => {
  sample = await DamagedSample.make();
  mine = sample.files;
  other = await sampleFiles(2);
});
afterAll(() => console.log(`byte-flip: ${JSON.stringify(sample.counts)}`));

test('no file of the volume is left out', () => {
  // The reserve holds nothing: it is there to give way. The copy of the manifest is read when the manifest cannot be, and only then.
  const filled = [...mine].filter(([name, bytes]) => bytes.length > 0 && name !== '.reserve' && name !== 'manifest-copy').map(([name]) => name);
  expect(filled.toSorted()).toEqual(SAMPLE_FILES.toSorted());
});

describe.each(SAMPLE_FILES)('%s', (name) => {
  test('with one byte changed is named, or every block that can be read is right', async () => {
    const { length } = fileOf(mine, name);
    const places = Array.from({ length }, (_, at) => at).filter((at) => at % STEP === 0 || at < EDGE_BYTES || at >= length - EDGE_BYTES);
    for (const at of places) expect(await sample.flip(name, at)).toEqual([]);
  });

  test('cut at each 512 bytes is named, or every block that can be read is right', async () => {
    const bytes = fileOf(mine, name);
    const isLog = name.startsWith('log/');
    for (let length = 0; length < bytes.length; length += 512) {
      const outcome = await sample.examine(withFile(mine, name, Buffer.from(bytes.subarray(0, length))), STATES);
      expect(problemsOf(name, outcome), `${length} bytes`).toEqual([]);
      // What was never synced may be gone, and the mark.
      expect(isLog || !outcome.report.isClean, `${length} bytes are found to be too few`).toBe(true);
    }
  });

  test("swapped with another volume's is named", async () => {
    const outcome = await sample.examine(withFile(mine, name, fileOf(other, name)), STATES);
    // With another volume's manifest all other files are named.
    expect(name === 'manifest' ? outcome.broken : problemsOf(name, outcome)).toEqual([]);
    expect(JSON.stringify([outcome.refused?.message, outcome.content?.messages, outcome.report.findings, outcome.report.notes])).toMatch(/another volume/u);
    expect(outcome.report.isClean).toBe(name === 'log/synced');
  });
});

test('a compressed log with one byte changed is named, or every block that can be read is right', async () => {
  const compressed = await DamagedSample.make('log');
  const { length } = fileOf(compressed.files, 'log/00.log');
  for (let at = 0; at < length; at += 29) expect(await compressed.flip('log/00.log', at)).toEqual([]);
});

test.each(SAMPLE_FILES.filter((name) => name.startsWith('chunks/')))('%s, compressed, with one byte changed is named, or every block that can be read is right', async (name) => {
  const compressed = await DamagedSample.make('chunks');
  const { length } = fileOf(compressed.files, name);
  // Of the header only a few bytes mean something.
  for (let at = 0; at < length; at += at < 92 || at >= 4096 ? 7 : 401) expect(await compressed.flip(name, at)).toEqual([]);
}, 60_000);

// Without a manifest there is no volume, which other tests hold.
test.each(SAMPLE_FILES.slice(1))('%s missing is named', async (name) => {
  const outcome = await sample.examine(withFile(mine, name, null), STATES);
  expect(problemsOf(name, outcome)).toEqual([]);
  // Of the newest chunk all records are still in the log: it is as if it had never been published.
  // The mark only repeats what later records say.
  expect(outcome.report.isClean).toBe(name === NEWEST_CHUNK || name === 'log/synced');
});
