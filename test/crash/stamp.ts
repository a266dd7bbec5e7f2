/**
 * Data that tells who wrote it: every byte is a function of its position in the volume, the request and the
 * connection, so that nothing needs to be kept to know what a request has written.
 *
 * | offset in the sector | bytes | content |
 * |---|---|---|
 * | 0 | 4 | "SECT" |
 * | 4 | 4 | sector number, little-endian |
 * | 8 | 4 | request number |
 * | 12 | 4 | connection number |
 * | 16 | 240 | words mixed from position and request number |
 * | 256 | 256 | one word, mixed from sector and request number, again and again: half of the data compresses |
 */
export const SECTOR_BYTES = 512;

const MAGIC = 0x54434553;
const WORDS_PER_SECTOR = SECTOR_BYTES / 4;
const FIRST_REPEATED_WORD = WORDS_PER_SECTOR / 2;

export interface Stamp {
  readonly request: number;
  readonly connection: number;
}

/** Fills `target` with what `stamp` writes at `offsetBytes` of the volume; any alignment. */
export function fillStamp(target: Uint8Array, offsetBytes: number, stamp: Stamp): void {
  const firstWord = Math.floor(offsetBytes / 4);
  const endWord = Math.ceil((offsetBytes + target.length) / 4);
  const words = new Uint32Array(endWord - firstWord);
  for (let index = 0; index < words.length; index += 1) words[index] = wordAt(firstWord + index, stamp);
  const start = offsetBytes - firstWord * 4;
  target.set(new Uint8Array(words.buffer, start, target.length));
}

function wordAt(word: number, stamp: Stamp): number {
  switch (word % WORDS_PER_SECTOR) {
    case 0:
      return MAGIC;
    case 1:
      return Math.floor(word / WORDS_PER_SECTOR);
    case 2:
      return stamp.request;
    case 3:
      return stamp.connection;
    default: {
      const place = word % WORDS_PER_SECTOR < FIRST_REPEATED_WORD ? word : word - (word % FIRST_REPEATED_WORD);
      const mixed = Math.imul(place ^ Math.imul(stamp.request, 0x9e3779b1), 0x85ebca6b);
      return mixed ^ (mixed >>> 15);
    }
  }
}
