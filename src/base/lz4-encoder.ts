/**
 * Encodes LZ4 blocks for what is compressed once, off the data path, and kept: chunks. Any LZ4 decoder takes them. It looks at more places for each match than `lz4.ts`
 * does, which the log uses, as the log's writers wait: in frames of 32 KiB this project's sources and documents take 0.396 of their size in place of 0.460, machine code 0.535 in
 * place of 0.583. It takes longer: one thread encodes 90 to 125 MB/s of text in place of 320 to 400 (measured together, beside other work).
 *
 * The encoder is WebAssembly: `lz4-encoder.wat`, assembled, without SIMD. The same in TypeScript did 76 MB/s.
 */
import { assert } from './assert.ts';
import { type Assembled, instantiate } from './assembled.ts';

/** Longest that what is encoded may be: a match may be so far away. */
const MAX_BYTES = 65536;
/** Where the encoder puts the block. */
const BLOCK_OFFSET = 327680;
/** Places that are looked at for each match. With 2 the same text takes 0.412, with 4 0.396, with 8 0.385, with 32 0.376, at 120, 107, 91 and 76 MB/s. */
const DEPTH = 4;

const BINARY = [
  'AGFzbQEAAAABGwRgAX8Bf2ACf38Bf2ADf39/AX9gBH9/f38BfwMJCAABAgMBAwECBQMBAAcGCwJ/AUEAC38BQQALBxMCBm1lbW9yeQIABmVuY29kZQAHCooHCBYAQYCACCAAQbHz3fF5bEESdkEBdGoLMAECfyAB',
  'EAAhAiACLwEAIQMgAiAAQQFqOwEAIABBAXQgAzsBgIAMIABBAWokACADC4oBAgF/AX4gACEDIABBBGohACABQQRqIQECQANAIABBCGogAksNASAAKQAAIAEpAACFIQQgBEIAUgRAIAAgA2sgBHqnQQN2ag8LIABB',
  'CGohACABQQhqIQEMAAsLAkADQCAAIAJPDQEgAC0AACABLQAARw0BIABBAWohACABQQFqIQEMAAsLIAAgA2sLpgEBBH8CQANAIwAgAE8NASMAIwAoAAAQARoMAAsLIAAoAAAhBCAAIAQQASEFAkADQCAFRQ0BIANF',
  'DQEgA0EBayEDIAVBAWshBSAFIAFqLQAAIAAgAWotAABGBEAgBSgAACAERgRAIAAgBSACEAIhBiAGIAFLBEAgBiEBQQEhByAFJAEgACAGaiACRg0ECwsLIAVBAXQvAYCADCEFDAALCyABQQAgBxsLRwAgAUEPSQRA',
  'IAAPCyABQQ9rIQECQANAIAFB/wFJDQEgAEH/AToAACAAQQFqIQAgAUH/AWshAQwACwsgACABOgAAIABBAWoLZgEBfyAAIAJBDyACQQ9JG0EEdCADQQ8gA0EPSRtyOgAAIABBAWogAhAEIQAgACACaiEEAkADQCAA',
  'IARPDQEgACABKQAANwAAIAAgASkACDcACCABQRBqIQEgAEEQaiEADAALCyAECxUAIABBBWogAEH/AW4gAUH/AW5qagvGAgEHf0GAgAhBAEGAgAL8CwBBACQAQYCAFCEIQYCAFCACaiEJAkADQCADIABBDGtKDQEg',
  'A0EDIABBBWsgARADIQUgBUUEQCADQQFqIAMgB2tBBnZqIQMgAyQADAELAkADQCADIABBDGtODQEgA0EBaiAFIABBBWsgARADIQYgBkUNASADQQFqIQMgBiEFDAALCyMBIQQCQANAIAMgB0YgBEVyDQEgA0EBay0A',
  'ACAEQQFrLQAARw0BIANBAWshAyAEQQFrIQQgBUEBaiEFDAALCyAIIAMgB2sgBRAGaiAJSwRAQQAPCyAIIAcgAyAHayAFQQRrEAUhCCAIIAMgBGs7AAAgCEECaiAFQQRrEAQhCCADIAVqIQMgAyEHDAALCyAAIAdr',
  'IQUgCCAFQQAQBmogCUsEQEEADwsgCCAHIAVBABAFQYCAFGsL',
].join('');

/** Made with its first use. */
let made: Assembled | null = null;

/** The module, as it is assembled from its source. */
export function lz4EncoderBinary(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(BINARY, 'base64'));
}

/** The bytes, at most 64 KiB, as one LZ4 block of at most `maxBytes`, which is the caller's; null if it would be longer. `plain` is not kept. */
export function lz4Encode(plain: Uint8Array, maxBytes: number): Uint8Array | null {
  assert(plain.length <= MAX_BYTES && maxBytes <= MAX_BYTES, `${plain.length} bytes, as ${maxBytes}, are more than the encoder has room for`);
  made ??= instantiate(lz4EncoderBinary(), 'encode');
  const { memory, run } = made;
  memory.set(plain, 0);
  const count = run(plain.length, DEPTH, maxBytes);
  assert(typeof count === 'number' && count <= maxBytes, 'the block is longer than it was allowed to be');
  return count === 0 ? null : memory.slice(BLOCK_OFFSET, BLOCK_OFFSET + count);
}
