/** What a volume says of its extents, against a model, through writes, zeroes, trims, chunks, checkpoints and restarts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EXTENT, type Extent, type ExtentDetail, ExtentList } from '../../src/base/extent-list.ts';
import type { EngineSettings } from '../../src/base/settings-types.ts';
import { MIB } from '../../src/base/units.ts';
import { LEAF_BLOCKS } from '../../src/index/block-map.ts';
import type { BlockDevice } from '../../src/volume/block-device.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { BLOCK_BYTES, SLAB_BYTES, SimMachine, pattern, smallSettings } from '../support/engine-harness.ts';

const LEAVES = 24;
const BLOCKS = LEAVES * LEAF_BLOCKS;
const ALL = 1 << 20;

interface Range {
  readonly first: number;
  readonly count: number;
}

interface Change extends Range {
  readonly kind: 'write' | 'zero' | 'provision' | 'trim' | 'read';
}

/** A crash comes between two runs of the scheduler: `reboot`. */
interface Event {
  readonly kind: 'flush' | 'reopen' | 'crash';
}

type Step = Change | Event;

/** Near the edges of leaves, mostly. */
const place = fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: LEAVES - 1 }), fc.integer({ min: -20, max: 20 })).map(([leaf, within]) => Math.max(0, leaf * LEAF_BLOCKS + within)),
  fc.integer({ min: 0, max: BLOCKS - 1 }),
);
const range = (most: number): fc.Arbitrary<Range> =>
  fc.record({ first: place, count: fc.integer({ min: 1, max: most }) }).map(({ first, count }) => ({ first, count: Math.min(count, BLOCKS - first) }));

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: range(40).map((where) => ({ kind: 'write' as const, ...where })) },
  { weight: 3, arbitrary: fc.oneof(range(20), range(4 * LEAF_BLOCKS)).map((where) => ({ kind: 'zero' as const, ...where })) },
  { weight: 3, arbitrary: fc.oneof(range(20), range(4 * LEAF_BLOCKS)).map((where) => ({ kind: 'provision' as const, ...where })) },
  { weight: 3, arbitrary: fc.oneof(range(20), range(BLOCKS)).map((where) => ({ kind: 'trim' as const, ...where })) },
  { weight: 2, arbitrary: range(64).map((where) => ({ kind: 'read' as const, ...where })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'flush' as const }) },
  { weight: 1, arbitrary: fc.constantFrom({ kind: 'reopen' as const }, { kind: 'crash' as const }) },
);

/** Memory for a few blocks and leaves only. */
const settings = smallSettings({ indexBytes: 4 * LEAF_BLOCKS * 6, flushBytes: 2 * SLAB_BYTES, logFileBytes: 2 * MIB });
/** What is written is in a chunk, and that in a checkpoint, as soon as can be. */
const hasty = { ...settings, flushIntervalMs: 1, checkpointChunks: 1 };

class World {
  readonly machine = new SimMachine(settings);
  readonly #settings: EngineSettings;
  /** The kind of each block; what is data is DATA. */
  readonly model: Extent[] = Array.from({ length: BLOCKS }, () => EXTENT.EMPTY);
  #volume: Volume | null = null;
  #seed = 0;

  constructor(used = settings) {
    this.#settings = used;
  }

  get volume(): Volume {
    if (this.#volume === null) throw new Error('the volume is not open');
    return this.#volume;
  }

  async start(): Promise<void> {
    await this.machine.create('/v', { sizeBytes: BLOCKS * BLOCK_BYTES });
    this.#volume = await this.machine.open('/v', this.#settings);
  }

  async perform(next: Step): Promise<void> {
    if ('first' in next) return this.#change(next);
    if (next.kind === 'flush') await this.volume.flush();
    if (next.kind === 'reopen') {
      await this.volume.close();
      this.#volume = await this.machine.open('/v', this.#settings);
    }
  }

  async #change(next: Change): Promise<void> {
    const { first, count } = next;
    const [offset, length] = [first * BLOCK_BYTES, count * BLOCK_BYTES];
    if (next.kind === 'read') return this.volume.read(offset, new Uint8Array(length));
    this.#seed += 1;
    if (next.kind === 'write') await this.volume.write(offset, pattern(this.#seed, count), false);
    else if (next.kind === 'trim') await this.volume.trim(offset, length, false);
    else await this.volume.zero(offset, length, { provisioned: next.kind === 'provision', fua: false });
    this.model.fill(next.kind === 'write' ? EXTENT.DATA : next.kind === 'provision' ? EXTENT.PROVISIONED : EXTENT.EMPTY, first, first + count);
  }

  async reboot(): Promise<void> {
    this.machine.restart();
    await this.machine.run(async () => {
      this.#volume = await this.machine.open('/v', this.#settings);
    });
  }
}

/** Of each block in a range of bytes its kind, as a list tells it; what the list has no room for is missing. */
function blocksOf(extents: ExtentList, offsetBytes: number): Extent[] {
  const kinds: Extent[] = [];
  let at = offsetBytes;
  for (let index = 0; index < extents.count; index += 1) {
    const [length, kind] = [extents.lengthAt(index), extents.kindAt(index)];
    if (length <= 0) throw new Error('an extent without length');
    if (index > 0 && kind === extents.kindAt(index - 1)) throw new Error('equal neighbours are not merged');
    const end = at + length;
    if (index < extents.count - 1 && end % BLOCK_BYTES !== 0) throw new Error('an extent that ends within a block');
    for (let block = Math.floor(at / BLOCK_BYTES); block * BLOCK_BYTES < end; block += 1) if (block * BLOCK_BYTES >= at || kinds.length === 0) kinds.push(kind);
    at = end;
  }
  return kinds;
}

interface Question {
  readonly offset: number;
  readonly length: number;
  readonly limit: number;
  readonly detail: ExtentDetail;
}

function coarse(kind: Extent, detail: ExtentDetail): Extent {
  if (kind >= EXTENT.DATA || (detail === 'space' && kind === EXTENT.PROVISIONED)) return EXTENT.DATA;
  return detail === 'content' ? EXTENT.EMPTY : kind;
}

async function ask(device: BlockDevice, model: readonly Extent[], { offset, length, limit, detail }: Question): Promise<void> {
  const first = Math.floor(offset / BLOCK_BYTES);
  const expected = model.slice(first, Math.ceil((offset + length) / BLOCK_BYTES)).map((kind) => coarse(kind, detail));
  const promised = new ExtentList(detail, limit);
  await device.extents(offset, length, promised);
  const now = new ExtentList(detail, limit);
  for (const extents of device.extentsNow(offset, length, now) ? [promised, now] : [promised]) {
    const kinds = blocksOf(extents, offset).map((kind) => coarse(kind, detail));
    // Joined, for arrays of that length take seconds to compare.
    expect(kinds.join('')).toBe(expected.slice(0, kinds.length).join(''));
    expect(extents.totalBytes).toBeGreaterThan(0);
    // Short of the end only for want of room.
    expect(extents.count < limit ? extents.totalBytes : length).toBe(length);
  }
}

const question: fc.Arbitrary<Question> = fc
  .record({
    first: place,
    within: fc.constantFrom(0, 0, 1, 512, BLOCK_BYTES - 1),
    length: fc.oneof(fc.integer({ min: 1, max: 30 * BLOCK_BYTES }), fc.integer({ min: 1, max: BLOCKS * BLOCK_BYTES }), fc.constant(BLOCKS * BLOCK_BYTES)),
    limit: fc.constantFrom(1, 2, 7, ALL, ALL),
    detail: fc.constantFrom<ExtentDetail>('content', 'space', 'allocation', 'state'),
  })
  .map(({ first, within, length, limit, detail }) => {
    const offset = first * BLOCK_BYTES + within;
    return { offset, length: Math.min(length, BLOCKS * BLOCK_BYTES - offset), limit, detail };
  });

describe('the extents of a volume', () => {
  test('are what was written, zeroed and trimmed, whatever is in memory', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(step, fc.array(question, { minLength: 1, maxLength: 3 })), { minLength: 1, maxLength: 30 }), async (steps) => {
        const world = new World();
        await world.machine.run(() => world.start());
        for (const [next, questions] of steps) {
          await world.machine.run(async () => {
            await world.perform(next);
            await world.machine.process.sleep(100);
          });
          if (next.kind === 'crash') await world.reboot();
          await world.machine.run(async () => {
            for (const asked of questions) await ask(world.volume, world.model, asked);
          });
        }
        await world.machine.run(() => world.volume.close());
      }),
      { numRuns: 40 },
    );
  }, 60_000);

  test('are right while the map changes: what was in the log and is in a chunk now is found in one of the two', async () => {
    const change = fc.record({ leaf: fc.integer({ min: 0, max: LEAVES - 1 }), within: fc.constantFrom(8, 64, 256, 1000), kind: fc.constantFrom('write' as const, 'provision' as const, 'trim' as const) });
    const round = fc.record({ changes: fc.array(change, { minLength: 1, maxLength: 8 }), wait: fc.integer({ min: 0, max: 12 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 12 }), async (rounds) => {
        const world = new World(hasty);
        await world.machine.run(async () => {
          await world.start();
          for (let leaf = 0; leaf < LEAVES; leaf += 1) {
            for (const within of [8, 64, 256]) await world.perform({ kind: 'write', first: leaf * LEAF_BLOCKS + within, count: 1 });
            await world.perform({ kind: 'provision', first: leaf * LEAF_BLOCKS + 1000, count: 2 });
          }
          await world.perform({ kind: 'reopen' });
          for (const { changes, wait } of rounds) {
            for (const { leaf, within, kind } of changes) await world.perform({ kind, first: leaf * LEAF_BLOCKS + within, count: 1 });
            await world.machine.process.sleep(wait);
            await ask(world.volume, world.model, { offset: 0, length: BLOCKS * BLOCK_BYTES, limit: ALL, detail: 'allocation' });
          }
          await world.volume.close();
        });
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('do not push out of memory what others use, when a walk passes them', async () => {
    const world = new World({ ...hasty, indexBytes: 10 * LEAF_BLOCKS * 6 });
    await world.machine.run(async () => {
      await world.start();
      for (let leaf = 0; leaf < LEAVES; leaf += 1) for (const within of [0, 9]) await world.perform({ kind: 'write', first: leaf * LEAF_BLOCKS + within, count: 1 });
      await world.perform({ kind: 'reopen' });
      const inUse = 12 * LEAF_BLOCKS;
      // Not the block that is asked for then: one that was read is known without the map.
      await world.volume.read(inUse * BLOCK_BYTES, new Uint8Array(BLOCK_BYTES));
      await world.volume.extents(0, BLOCKS * BLOCK_BYTES, new ExtentList('content', ALL));
      expect(world.volume.extentsNow((inUse + 9) * BLOCK_BYTES, BLOCK_BYTES, new ExtentList('content', 1))).toBe(true);
      await world.volume.close();
    });
  });

  test('that read as zeroes do, and those of a read are those of its bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), fc.array(range(200), { minLength: 1, maxLength: 5 }), async (steps, reads) => {
        const world = new World();
        await world.machine.run(async () => {
          await world.start();
          for (const next of steps) if (next.kind !== 'crash') await world.perform(next);
          await world.perform({ kind: 'reopen' });
          for (const { first, count } of reads) {
            const target = new Uint8Array(count * BLOCK_BYTES).fill(0xdd);
            const extents = new ExtentList('content', ALL);
            await world.volume.read(first * BLOCK_BYTES, target, extents);
            const kinds = blocksOf(extents, first * BLOCK_BYTES);
            expect(kinds).toEqual(world.model.slice(first, first + count).map((kind) => coarse(kind, 'content')));
            for (const [index, kind] of kinds.entries()) {
              const block = target.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);
              expect(block.every((byte) => byte === 0)).toBe(kind === EXTENT.EMPTY);
            }
          }
          await world.volume.close();
        });
      }),
      { numRuns: 40 },
    );
  }, 60_000);
});
