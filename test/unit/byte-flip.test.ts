/**
 * A real small volume with one byte of one file changed, one file missing, cut, or taken from another volume: opened and read whole, looked
 * at by `check`, and repaired. Never a wrong read; never a failure without a message that names the file.
 *
 * Here a sample of the bytes; all of them with `make byte-flip` (BASALT_FLIP=all).
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import type { CheckReport } from '../../src/volume/check.ts';
import { type Content, type VolumeFiles, check, digests, fileOf, flipped, machineWith, readContent, repair, sampleFiles, tryOpen, withFile } from '../support/damaged-volumes.ts';
import { sampleStates } from '../support/make-sample.ts';

const ALL = process.env.BASALT_FLIP === 'all';
/** Of how many bytes one is changed, but for the first and last of a file, where the structures stand. */
const STEP = ALL ? 1 : 397;
const EDGE_BYTES = ALL ? 0 : 24;

/** Log records that were synced must be there, or their loss must be told; what was not may end anywhere. */
const STATES = sampleStates('synced');
/** A log of which nothing is left, not even the records that say what had been synced. */
const OLDER_STATES = sampleStates('chunked');

let mine: VolumeFiles;
let other: VolumeFiles;
const counts = { changes: 0, refused: 0, unreadable: 0, shorter: 0, harmless: 0, repaired: 0, lostByRepair: 0 };

beforeAll(async () => {
  mine = await sampleFiles(1);
  other = await sampleFiles(2);
});
afterAll(() => console.log(`byte-flip: ${JSON.stringify(counts)}`));

interface Outcome {
  readonly refused: VolumeError | null;
  readonly content: Content | null;
  readonly report: CheckReport;
  /** The rules that were broken: there must be none. */
  readonly broken: readonly string[];
}

/** Opens and reads a volume that is damaged, and holds it and the tools to the rules. */
async function examine(files: VolumeFiles, states: readonly Buffer[]): Promise<Outcome> {
  const checked = machineWith(files);
  const report = await checked.run(() => check(checked));
  const isUnchanged = digests(checked.snapshot('/v')).join() === digests(files).join();
  const machine = machineWith(files);
  const outcome = await machine.run(async () => {
    const opened = await tryOpen(machine);
    if (opened instanceof VolumeError) return { refused: opened, content: null };
    const content = await readContent(opened, states);
    await opened.close();
    return { refused: null, content };
  });
  count(outcome, states);
  const { refused, content } = outcome;
  const rules = [
    [isUnchanged, 'a check changes nothing'],
    [content === null || content.states.length > 0, 'what can be read is of one moment'],
    [refused === null || report.findings.length > 0, `check finds why the volume is not opened: ${refused?.message}`],
    [!report.isClean || content?.unreadable.length === 0, 'check finds what cannot be read'],
  ] as const;
  const repairRules = report.findings.some(({ needsRepair }) => needsRepair) ? await examineRepair(files) : [];
  return { refused, content, report, broken: [...brokenOf(rules), ...repairRules] };
}

function brokenOf(rules: readonly (readonly [boolean, string])[]): string[] {
  return rules.filter(([holds]) => !holds).map(([, rule]) => rule);
}

function count({ refused, content }: Pick<Outcome, 'refused' | 'content'>, states: readonly Buffer[]): void {
  counts.changes += 1;
  if (refused !== null) counts.refused += 1;
  else if (content !== null && content.unreadable.length > 0) counts.unreadable += 1;
  else if (content !== null && !content.states.includes(states[states.length - 1])) counts.shorter += 1;
  else counts.harmless += 1;
}

/** After a repair the volume opens; what it reads is of one moment, or lost and told to be. Returns the rules that were broken. */
function examineRepair(files: VolumeFiles): Promise<string[]> {
  const machine = machineWith(files);
  return machine.run(async () => {
    const report = await repair(machine).catch((error: unknown) => {
      if (error instanceof VolumeError) return error;
      throw error;
    });
    if (report instanceof VolumeError) return brokenOf([[report.code === 'corrupt' && report.message.includes('manifest'), `only a manifest that is not this volume's cannot be repaired: ${report.message}`]]);
    const volume = await machine.open('/v');
    const content = await readContent(volume, OLDER_STATES);
    await volume.close();
    const lost = report.lost.flatMap(({ blockNumber, blockCount }) => Array.from({ length: blockCount }, (_, index) => blockNumber + index));
    counts.repaired += 1;
    if (lost.length > 0) counts.lostByRepair += 1;
    const after = await check(machine);
    return brokenOf([
      [report.state === 'repaired', 'a repair says that it was done'],
      [content.states.length > 0, 'what can be read after a repair is of one moment'],
      [content.unreadable.join() === lost.join(), `a repair says what is lost: ${lost.join()}; unreadable: ${content.unreadable.join()}`],
      [!after.findings.some(({ needsRepair }) => needsRepair), 'after a repair there is nothing to repair'],
    ]);
  });
}

const FILES = [
  'manifest',
  'checkpoints/k0000000001-e000001',
  'chunks/c0000000001-e000001',
  'chunks/c0000000002-e000002',
  'chunks/c0000000003-e000002',
  'log/00.log',
];

function nameIn(name: string): RegExp {
  return name.startsWith('log/') ? /log file 0|log\/00\.log/u : new RegExp(name.replaceAll('.', '\\.'), 'u');
}

/** The rules of a damaged file `name` that were broken. */
function problemsOf(name: string, { refused, content, report, broken }: Outcome): string[] {
  const messages = [...(refused === null ? [] : [refused.message]), ...(content?.messages ?? [])];
  // Of a chunk in the middle of the chain it is the one behind it that cannot be placed.
  const follows = /^chunks\/c0*(\d+)-/u.exec(name)?.[1] ?? 'none';
  const wanted = new RegExp(`${nameIn(name).source}|follows chunk ${follows},`, 'u');
  const unnamed = messages.filter((message) => !wanted.test(message)).map((message) => `an error does not name the file: ${message}`);
  const elsewhere = report.findings.filter(({ file }) => file !== name && file !== 'chunks/c0000000003-e000002').map(({ file }) => `a finding names ${file}`);
  return [...broken, ...unnamed, ...elsewhere];
}

describe.each(FILES)('%s', (name) => {
  test('with one byte changed is named, or every block that can be read is right', { timeout: 3_600_000 }, async () => {
    const bytes = fileOf(mine, name);
    for (let at = 0; at < bytes.length; at += 1) {
      if (at % STEP !== 0 && at >= EDGE_BYTES && at < bytes.length - EDGE_BYTES) continue;
      // Another bit from byte to byte, and now and then all of them.
      const mask = at % 9 === 8 ? 0xff : 1 << (at % 9);
      expect(problemsOf(name, await examine(withFile(mine, name, flipped(bytes, at, mask)), STATES)), `byte ${at} xor ${mask}`).toEqual([]);
    }
  });

  test('cut at each 512 bytes is named, or every block that can be read is right', async () => {
    const bytes = fileOf(mine, name);
    const isLog = name.startsWith('log/');
    for (let length = 0; length < bytes.length; length += 512) {
      // A log that ends before the first record that says what had been synced looks like one that was never written further.
      const outcome = await examine(withFile(mine, name, Buffer.from(bytes.subarray(0, length))), isLog ? OLDER_STATES : STATES);
      expect(problemsOf(name, outcome), `${length} bytes`).toEqual([]);
      expect(isLog || !outcome.report.isClean, `${length} bytes are found to be too few`).toBe(true);
    }
  });

  test("swapped with another volume's is named", async () => {
    const outcome = await examine(withFile(mine, name, fileOf(other, name)), STATES);
    // With another volume's manifest all other files are named.
    expect(name === 'manifest' ? outcome.broken : problemsOf(name, outcome)).toEqual([]);
    expect(JSON.stringify([outcome.refused?.message, outcome.content?.messages, outcome.report.findings])).toMatch(/another volume/u);
    expect(outcome.report.isClean).toBe(false);
  });
});

// Without a manifest there is no volume, which other tests hold.
test.each(FILES.slice(1))('%s missing is named', async (name) => {
  const outcome = await examine(withFile(mine, name, null), STATES);
  expect(problemsOf(name, outcome)).toEqual([]);
  // Of the newest chunk all records are still in the log: it is as if it had never been published.
  expect(outcome.report.isClean).toBe(name === 'chunks/c0000000003-e000002');
});
