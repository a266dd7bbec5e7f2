import { describe, expect, test } from 'vitest';
import { FrameJudge, NO_VAIN_TRIES } from '../../src/chunk/frame-judge.ts';
import { PACKED_FRAME_BYTES, packBlocks } from '../../src/chunk/pack-blocks.ts';
import { SeededRandom } from '../sim/random.ts';

const BLOCK_BYTES = 4096;
const PER_FRAME = PACKED_FRAME_BYTES / BLOCK_BYTES;

type Kind = 'noise' | 'stamped' | 'padded' | 'text';

/** A block of noise; of noise with a counter and zeroes in it, of which LZ4 saves some percent; with more zeroes, so that it saves a sixth; of text. */
function block(kind: Kind, seed: number): Uint8Array {
  const made = Buffer.alloc(BLOCK_BYTES, `block ${seed} of what everybody writes, `);
  if (kind === 'text') return made;
  new SeededRandom(seed + 1).fill(made);
  if (kind === 'stamped') {
    for (let at = 0; at < BLOCK_BYTES; at += 512) {
      made.fill(0, at + 64, at + 96);
      made.writeUInt32LE(seed, at + 72);
    }
  }
  if (kind === 'padded') for (let at = 0; at < BLOCK_BYTES; at += 512) made.fill(0, at + 64, at + 160);
  return made;
}

function framesOf(kinds: readonly Kind[]): Uint8Array[] {
  return kinds.flatMap((kind, frame) => Array.from({ length: PER_FRAME }, (_, index) => block(kind, frame * PER_FRAME + index)));
}

/** What was tried of the frames, and what of that was stored smaller. */
function judged(judge: FrameJudge, kinds: readonly Kind[]): { readonly tried: number[]; readonly smaller: number } {
  const blocks = framesOf(kinds);
  const tried: number[] = [];
  let smaller = 0;
  for (const frame of kinds.keys()) {
    const blockAt = (index: number): Uint8Array => blocks[frame * PER_FRAME + index];
    if (!judge.isWorthTrying(PER_FRAME, BLOCK_BYTES, blockAt)) continue;
    const isSmaller = packBlocks(PER_FRAME, BLOCK_BYTES, blockAt) !== null;
    tried.push(frame);
    if (isSmaller) smaller += 1;
    judge.tried(isSmaller);
  }
  return { tried, smaller };
}

function many(kind: Kind, count: number): Kind[] {
  return Array.from({ length: count }, () => kind);
}

describe('which frames are tried', () => {
  test('all of text, and none of noise', () => {
    expect(judged(new FrameJudge(), many('text', 9))).toMatchObject({ tried: [...many('text', 9).keys()], smaller: 9 });
    const noise = new FrameJudge();
    expect(judged(noise, many('noise', 50)).tried.length).toBeLessThan(3);
  });

  test('noise is told by a quarter of the samples where noise stood before it', () => {
    const blocks = framesOf(['noise', 'noise']);
    const judge = new FrameJudge();
    const looks = [0, 1].map((frame) => {
      let count = 0;
      const blockAt = (index: number): Uint8Array => {
        count += 1;
        return blocks[frame * PER_FRAME + index];
      };
      expect(judge.isWorthTrying(PER_FRAME, BLOCK_BYTES, blockAt)).toBe(false);
      return count;
    });
    expect(looks).toEqual([20, 4]);
  });

  test('noise is none the less noise behind what is nearly noise', () => {
    const mix: Kind[] = many('stamped', 24).map((kind, index) => (index % 2 === 0 ? kind : 'noise'));
    expect(judged(new FrameJudge(), mix).tried.filter((frame) => mix[frame] === 'noise')).toEqual([]);
  });

  test('what is nearly noise is tried less and less when it was in vain 16 times', () => {
    const judge = new FrameJudge();
    const { tried, smaller } = judged(judge, many('stamped', 400));
    expect(smaller).toBe(0);
    // Some of them are taken for noise: with them the distances are longer.
    const gaps = tried.slice(1).map((frame, index) => frame - tried[index]);
    expect(Math.max(...gaps.slice(0, 15))).toBeLessThan(10);
    expect(tried.length).toBeGreaterThan(20);
    expect(tried.length).toBeLessThan(26);
    for (let index = 19; index < gaps.length; index += 1) expect(gaps[index]).toBeGreaterThan(gaps[index - 1]);
    expect(judge.tries.inVain).toBe(tried.length);
  });

  test('the distance between two tries ends at 1024 frames', () => {
    const judge = new FrameJudge({ inVain: 1000, left: 0 });
    const blocks = framesOf(['stamped']);
    const isTried = (): boolean => judge.isWorthTrying(PER_FRAME, BLOCK_BYTES, (index) => blocks[index]);
    expect(isTried()).toBe(true);
    judge.tried(false);
    expect(judge.tries).toEqual({ inVain: 1001, left: 1024 });
    for (let frame = 0; frame < 1024; frame += 1) expect(isTried()).toBe(false);
    expect(isTried()).toBe(true);
  });

  test('text among it is tried all the same, and does not make the rest worth it', () => {
    const judge = new FrameJudge({ inVain: 40, left: 64 });
    const { tried, smaller } = judged(judge, ['stamped', 'text', 'stamped', 'stamped', 'text', 'stamped']);
    expect({ tried, smaller }).toEqual({ tried: [1, 4], smaller: 2 });
    expect(judge.tries).toEqual({ inVain: 40, left: 60 });
  });

  test('one that is worth it ends the passing over', () => {
    const judge = new FrameJudge({ inVain: 40, left: 2 });
    const { tried, smaller } = judged(judge, ['stamped', 'stamped', ...many('padded', 20)]);
    // One or two of them may look like noise.
    expect(tried.length).toBeGreaterThan(17);
    expect(tried[0]).toBe(2);
    expect(smaller).toBe(tried.length);
    expect(judge.tries).toEqual(NO_VAIN_TRIES);
  });

  test('what one chunk found goes to the next', () => {
    const blocks = framesOf(many('stamped', 100));
    const first = new FrameJudge();
    expect(packBlocks(blocks.length, BLOCK_BYTES, (index) => blocks[index], first)).toBeNull();
    expect(first.tries.inVain).toBeGreaterThan(18);
    expect(first.tries.left).toBeGreaterThan(0);
    expect(judged(new FrameJudge(first.tries), many('stamped', first.tries.left)).tried).toEqual([]);
  });
});
