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

  test('what is nearly noise is tried less and less while that is in vain', () => {
    const judge = new FrameJudge();
    const { tried, smaller } = judged(judge, many('stamped', 400));
    expect(smaller).toBe(0);
    // Some of them are taken for noise: with them the distances are longer.
    expect(tried.length).toBeGreaterThan(4);
    expect(tried.length).toBeLessThan(10);
    const gaps = tried.slice(1).map((frame, index) => frame - tried[index]);
    for (const [index, gap] of gaps.slice(1).entries()) expect(gap).toBeGreaterThan(gaps[index]);
    expect(judge.tries.period).toBe(2 ** (tried.length - 1));
  });

  test('the distance between two tries ends at 1024 frames', () => {
    const judge = new FrameJudge({ period: 1024, left: 0 });
    const blocks = framesOf(['stamped']);
    const isTried = (): boolean => judge.isWorthTrying(PER_FRAME, BLOCK_BYTES, (index) => blocks[index]);
    expect(isTried()).toBe(true);
    judge.tried(false);
    expect(judge.tries).toEqual({ period: 1024, left: 1024 });
    for (let frame = 0; frame < 1024; frame += 1) expect(isTried()).toBe(false);
    expect(isTried()).toBe(true);
  });

  test('text among it is tried all the same, and does not make the rest worth it', () => {
    const judge = new FrameJudge({ period: 64, left: 64 });
    const { tried, smaller } = judged(judge, ['stamped', 'text', 'stamped', 'stamped', 'text', 'stamped']);
    expect({ tried, smaller }).toEqual({ tried: [1, 4], smaller: 2 });
    expect(judge.tries).toEqual({ period: 64, left: 60 });
  });

  test('one that is worth it ends the passing over', () => {
    const judge = new FrameJudge({ period: 64, left: 2 });
    const { tried, smaller } = judged(judge, ['stamped', 'stamped', ...many('padded', 20)]);
    // One or two of them may look like noise.
    expect(tried.length).toBeGreaterThan(17);
    expect(tried[0]).toBe(2);
    expect(smaller).toBe(tried.length);
    expect(judge.tries).toEqual(NO_VAIN_TRIES);
  });

  test('what one chunk found goes to the next', () => {
    const blocks = framesOf(many('stamped', 40));
    const first = new FrameJudge();
    expect(packBlocks(blocks.length, BLOCK_BYTES, (index) => blocks[index], first)).toBeNull();
    expect(first.tries.period).toBeGreaterThan(4);
    expect(judged(new FrameJudge(first.tries), many('stamped', first.tries.left)).tried).toEqual([]);
  });
});
