/**
 * Decodes LZ4 blocks, as far as they are needed: whoever wants one block of a frame does not wait for what stands behind it. `lz4-wasm-nodejs`, which
 * compresses, decodes whole frames only, into memory of its own that is copied twice more; a block of a frame of 16 KiB of text took 11 us with it and takes 4
 * with this, of 64 KiB 41 and 14. And it takes blocks for sound that are none (a match at offset 0 made it hand out memory it had used before).
 *
 * The decoder is WebAssembly: `lz4-decoder.wat`, assembled. It needs no SIMD instructions: with them a frame takes 3 to 10 percent less time, and processors that have none
 * of SSE4.1 (the default ones of QEMU among them), on which Node runs all the same, could read neither compressed chunks nor a compressed log.
 */
import { assert } from './assert.ts';
import { type Assembled, instantiate } from './assembled.ts';
import { MIB } from './units.ts';

/** Longest that a block may be, and what it stands for. */
const MAX_BYTES = MIB;
/** Where the decoder puts what a block stands for. */
const PLAIN_OFFSET = MIB + 65536;

const BINARY = [
  'AGFzbQEAAAABCAFgA39/fwF/AwIBAAUDAQAiBxMCBm1lbW9yeQIABmRlY29kZQAACvsDAfgDAQp/IAAhB0GAgMQAIQRBgIDEACABaiEBQYCAxAAgAmohCANAIAMgB08EQEF/DwsgAy0AACEJIANBAWohAyAJQQ',
  'R2IQogCkEPRgRAA0AgAyAHTwRAQX8PCyADLQAAIQsgA0EBaiEDIAogC2ohCiALQf8BRg0ACwsgCiAHIANrSwRAQX8PCyAKIAggBGtLBEBBfw8LIAQgCmohBSADIQYgAyAKaiEDA0AgBCAGKQAANwAAIAQgBikA',
  'CDcACCAGQRBqIQYgBEEQaiEEIAQgBUkNAAsgBSEEIAMgB0YgBCABT3IEQCAEQYCAxABrDwsgByADa0ECSQRAQX8PCyADLwAAIQwgA0ECaiEDIAQgDGshBiAMRSAGQYCAxABJcgRAQX8PCyAJQQ9xIQogCkEPRg',
  'RAA0AgAyAHTwRAQX8PCyADLQAAIQsgA0EBaiEDIAogC2ohCiALQf8BRg0ACwsgCkEEaiEKIAogCCAEa0sEQEF/DwsgBCAKaiEFIAxBCE8EQANAIAQgBikAADcAACAEIAYpAAg3AAggBkEQaiEGIARBEGohBCAE',
  'IAVJDQALBSAMQQFGBEAgBCAGLQAAIAr8CwAFA0AgBCAGLQAAOgAAIAZBAWohBiAEQQFqIQQgBCAFSQ0ACwsLIAUhBCAEIAFJDQALIARBgIDEAGsL',
].join('');

/** Made with its first use. */
let made: Assembled | null = null;

/** The module, as it is assembled from its source. */
export function lz4DecoderBinary(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(BINARY, 'base64'));
}

/**
 * The first `wantedBytes` or more of the `plainBytes` that a block stands for, which are 1 MiB at most; borrowed until the next call. Null: it is no
 * block, or does not stand for just so many bytes, as far as it was decoded.
 */
export function lz4Decode(stored: Uint8Array, plainBytes: number, wantedBytes = plainBytes): Uint8Array | null {
  assert(plainBytes <= MAX_BYTES && wantedBytes <= plainBytes, `${wantedBytes} of ${plainBytes} bytes are more than the decoder has room for`);
  if (stored.length > MAX_BYTES) return null;
  made ??= instantiate(lz4DecoderBinary(), 'decode');
  const { memory, run } = made;
  memory.set(stored, 0);
  // The end of the block is looked for only where all of it is wanted.
  const isPart = wantedBytes < plainBytes;
  const count = run(stored.length, isPart ? wantedBytes : plainBytes + 1, plainBytes);
  const isRight = typeof count === 'number' && (isPart ? count >= wantedBytes : count === plainBytes);
  return isRight ? memory.subarray(PLAIN_OFFSET, PLAIN_OFFSET + count) : null;
}
