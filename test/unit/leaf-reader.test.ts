import { beforeEach, describe, expect, test } from 'vitest';
import { checksum } from '../../src/base/checksum.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { CHECKPOINT_FOOTER_BYTES, CHECKPOINT_HEADER_BYTES, type PageReference, encodeLeaf } from '../../src/format/checkpoint-layout.ts';
import type { StoredObject } from '../../src/store/object-store.ts';
import { LeafReader } from '../../src/volume/leaf-reader.ts';

const LEAVES = 2000;

/** A checkpoint object of nothing but leaves, which counts what is done with it. */
class Pages {
  readonly references: PageReference[] = [];
  readonly bytes: Buffer;
  reads = 0;
  opened = 0;
  open = 0;
  /** Reads that cover this byte fail. */
  badByte = -1;

  constructor() {
    const parts: Uint8Array[] = [new Uint8Array(CHECKPOINT_HEADER_BYTES)];
    let offset = CHECKPOINT_HEADER_BYTES;
    for (let index = 0; index < LEAVES; index += 1) {
      const page = encodeLeaf(index, [{ place: index % 1000, blockCount: 1, chunk: index + 1, slot: 7 }]);
      const padded = new Uint8Array(Math.ceil(page.length / 8) * 8);
      padded.set(page);
      parts.push(padded);
      this.references.push({ number: 3, epoch: 2, offset, length: page.length, checksum: checksum(page) });
      offset += padded.length;
    }
    this.bytes = Buffer.concat([...parts, new Uint8Array(CHECKPOINT_FOOTER_BYTES)]);
  }

  store = {
    open: async (key: string): Promise<StoredObject> => {
      await Promise.resolve();
      if (key !== 'checkpoints/k0000000003-e000002') throw new VolumeError('not-found', `object ${key} is missing`);
      this.opened += 1;
      this.open += 1;
      return {
        sizeBytes: this.bytes.length,
        read: async (target, offsetBytes) => {
          this.reads += 1;
          await Promise.resolve();
          if (this.badByte >= offsetBytes && this.badByte < offsetBytes + target.length) throw Object.assign(new Error('EIO'), { code: 'EIO' });
          target.set(this.bytes.subarray(offsetBytes, offsetBytes + target.length));
        },
        close: () => {
          this.open -= 1;
          return Promise.resolve();
        },
      };
    },
  };
}

let pages: Pages;
let reader: LeafReader;
beforeEach(() => {
  pages = new Pages();
  reader = new LeafReader(pages.store);
});

async function chunkOf(index: number): Promise<number> {
  return (await reader.read(index, pages.references[index]))[0].chunk;
}

describe('reading leaves', () => {
  test('of one is one read, and nothing stays open', async () => {
    expect(await chunkOf(1234)).toBe(1235);
    expect(pages).toMatchObject({ reads: 1, opened: 1, open: 0 });
  });

  test('side by side is done in pieces, with one opening', async () => {
    const chunks = await Promise.all(Array.from({ length: LEAVES }, (_, index) => chunkOf(index)));
    expect(chunks).toEqual(Array.from({ length: LEAVES }, (_, index) => index + 1));
    expect(pages.reads).toBeLessThan(LEAVES / 100);
    expect(pages).toMatchObject({ opened: 1, open: 0 });
  });

  test('in any order gives each what is its own', async () => {
    const order = Array.from({ length: LEAVES }, (_, index) => (index * 769) % LEAVES);
    expect(await Promise.all(order.map(chunkOf))).toEqual(order.map((index) => index + 1));
    expect(pages.open).toBe(0);
  });

  test('of which the disk cannot read one fails that one', async () => {
    pages.badByte = pages.references[500].offset + 3;
    const results = await Promise.allSettled(Array.from({ length: 1000 }, (_, index) => chunkOf(index)));
    expect(results.map(({ status }, index) => [status, index]).filter(([status]) => status === 'rejected')).toEqual([['rejected', 500]]);
    expect(pages.open).toBe(0);
  });

  test('that are rotten, missing, or outside of their object is an error that says so', async () => {
    pages.bytes[pages.references[7].offset + 2] ^= 1;
    await expect(chunkOf(7)).rejects.toMatchObject({ code: 'corrupt' });
    await expect(reader.read(8, { ...pages.references[8], offset: pages.bytes.length - 8 })).rejects.toThrow(/does not fit an object/u);
    await expect(reader.read(8, { ...pages.references[8], number: 4 })).rejects.toMatchObject({ code: 'not-found' });
    expect(await chunkOf(9)).toBe(10);
    expect(pages.open).toBe(0);
  });
});
