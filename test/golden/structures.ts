/** One of each structure of format version 1, with every field set to something of its own. */
import { encodeCataloguePage, encodeCheckpointFooter, encodeCheckpointHeader, encodeLeaf, encodeNode, encodeRoot } from '../../src/format/checkpoint-layout.ts';
import { CHUNK_HEADER_BYTES, CHUNK_VERSION, FRAME_CODEC, encodeChunkHeader, encodeChunkTail } from '../../src/format/chunk-layout.ts';
import { LOG_VERSION, RECORD_CODEC, RECORD_KIND, type RecordFields, encodeLogHeader, encodeRecordPrefix, paddedBytes, recordPrefixBytes, recordSeed } from '../../src/format/log-record.ts';
import { encodeManifest } from '../../src/format/manifest.ts';
import { encodeClaim, encodeHotList, encodeRoot as encodeRemoteRoot } from '../../src/format/remote-records.ts';
import { encodeSyncedMark } from '../../src/format/synced-mark.ts';
import { checksum } from '../../src/base/checksum.ts';

export const VOLUME_ID = Uint8Array.from({ length: 16 }, (_, index) => 0xa0 + index);
const REFERENCE = { number: 7, epoch: 3, offset: 2 ** 40 + 96, length: 4242, checksum: 0xdeadbeef };
export const BLOCK_BYTES = 4096;
export const RECORD_CONTEXT = { blockSizeBytes: BLOCK_BYTES, seed: recordSeed(VOLUME_ID) };

export const MANIFEST = {
  volumeId: VOLUME_ID,
  sizeBytes: 2 ** 40 + 8192,
  createdBytes: 2 ** 40 + 8192,
  spanBytes: 2 ** 40 + 8192,
  blockSizeBytes: BLOCK_BYTES,
  durability: 'relaxed',
  epoch: 9,
  checkpoint: { number: 7, epoch: 3, lastChunk: 2 ** 33 + 1, lastLsn: 2 ** 45 + 5 },
  cut: { epoch: 9, lsn: 2 ** 45 + 77 },
  logFileCount: 4,
  logFileBytes: 64 * 1024 * 1024,
  createdMs: 1_790_000_000_123,
  measuredLogWay: null,
  compression: 'default',
} as const;
/** As it is written since it says how the log is best written; versions before that take it, too. */
export const MEASURED_MANIFEST = { ...MANIFEST, measuredLogWay: 'direct' } as const;
/** As they are written since a volume may say for itself whether its chunks are compressed; versions before that take them, too. */
export const PLAIN_MANIFEST = { ...MEASURED_MANIFEST, compression: 'none' } as const;
export const PACKING_MANIFEST = { ...MEASURED_MANIFEST, compression: 'lz4' } as const;
/** Of a volume that was made larger, and then smaller. */
export const RESIZED_MANIFEST = { ...MANIFEST, sizeBytes: 2 ** 41, spanBytes: 2 ** 42 + 4096 } as const;

export const CLAIM = { volumeId: VOLUME_ID, epoch: 9, writer: Uint8Array.from({ length: 16 }, (_, index) => 0xc0 + index), timeMs: 1_790_000_000_456, leaseMs: 60_000, host: 'höst' };
export const HOT_LIST = { volumeId: VOLUME_ID, timeMs: 1_790_000_000_999, chunks: [41, 7, 0xfffffffe] };
export const REMOTE_ROOT = { manifest: MANIFEST, fenceChunk: 2 ** 33 + 4, timeMs: 1_790_000_000_789 };

export const MARK = { volumeId: VOLUME_ID, epoch: 9, lsn: 2 ** 34 + 12 };

export const LOG_HEADER = { version: LOG_VERSION.PLAIN, volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, generation: 9 * 2 ** 24 + 2, firstLsn: 2 ** 34 + 11, durableLsn: 2 ** 34 + 3, epoch: 9, fileIndex: 3, previousGeneration: 0 };
/** As it is written since it names the life before it; versions before that take it, too. */
export const LINKED_LOG_HEADER = { ...LOG_HEADER, previousGeneration: 9 * 2 ** 24 + 1 };
export const WRITE_RECORD = { kind: RECORD_KIND.WRITE, provisioned: false, generation: LOG_HEADER.generation, lsn: 2 ** 34 + 11, durableLsn: 2 ** 34 + 3, blockNumber: 2 ** 35 + 6, blockCount: 3, codec: RECORD_CODEC.NONE, storedBytes: 3 * BLOCK_BYTES, storedChecksum: 0 };
export const ZERO_RECORD = { ...WRITE_RECORD, kind: RECORD_KIND.ZERO, provisioned: true, lsn: 2 ** 34 + 12, blockCount: 2 ** 36, storedBytes: 0 };
export const BLOCK_CHECKSUMS = Uint32Array.of(0, 0x11111111, 0x22222222, 0x33333333);

export const CHUNK = { volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, epoch: 9, chunkNumber: 41, firstLsn: 2 ** 34, lastLsn: 2 ** 34 + 500, previousChunk: 38, part: 2, parts: 3 };
/** As compaction makes it. */
export const COPIES = { ...CHUNK, chunkNumber: 42, firstLsn: 2 ** 34 + 501, lastLsn: 2 ** 34 + 500, previousChunk: 41, part: 1, parts: 1 };
export const RANGES = [
  { blockNumber: 5, blockCount: 2 ** 34, provisioned: false },
  { blockNumber: 2 ** 33, blockCount: 1, provisioned: true },
];
export const CHUNK_BLOCKS = Float64Array.of(17, 18, 2 ** 34 + 1);

export const CHECKPOINT = { volumeId: VOLUME_ID, blockSizeBytes: BLOCK_BYTES, sizeBytes: MANIFEST.sizeBytes, epoch: 9, number: 8, lastChunk: 41, lastLsn: 2 ** 34 + 500 };
export const RUNS = [
  { place: 0, blockCount: 3, chunk: 41, slot: 7 },
  { place: 3, blockCount: 1, chunk: 0, slot: 0 },
  { place: 1023, blockCount: 1, chunk: 0xfffffffe, slot: 1023 },
];
export const ROOT = {
  nodes: [{ index: 2 ** 20, reference: REFERENCE }],
  catalogue: [{ index: 3, reference: { ...REFERENCE, offset: 96 } }],
  objects: [{ number: 7, epoch: 3, objectBytes: 2 ** 41, liveBytes: 2 ** 40 }],
};
export const NODE = [{ place: 1000, reference: REFERENCE }];
export const CATALOGUE = [{ place: 41, liveBlocks: 2, blockCount: 3, objectBytes: 20000, epoch: 9 }];

function record(fields: Readonly<RecordFields>): Uint8Array {
  const bytes = new Uint8Array(recordPrefixBytes(fields.kind, fields.blockCount));
  encodeRecordPrefix(bytes, new DataView(bytes.buffer), 0, fields, RECORD_CONTEXT, BLOCK_CHECKSUMS, 1);
  return bytes;
}

/** A whole chunk object of three blocks, each full of its index + 1. */
export function chunkObject(): Uint8Array {
  const blocks = [...CHUNK_BLOCKS].map((_, index) => Buffer.alloc(BLOCK_BYTES, index + 1));
  const header = encodeChunkHeader(CHUNK);
  const tail = encodeChunkTail(CHUNK, header, { blockNumbers: CHUNK_BLOCKS, checksums: Uint32Array.from(blocks, (block) => checksum(block)) }, RANGES);
  return new Uint8Array(Buffer.concat([header, ...blocks, tail]));
}

/** Name of each structure and its bytes. */
export function structures(): Map<string, Uint8Array> {
  const chunk = chunkObject();
  return new Map<string, Uint8Array>([
    ['manifest', encodeManifest(MANIFEST)],
    ['measured-manifest', encodeManifest(MEASURED_MANIFEST)],
    ['plain-manifest', encodeManifest(PLAIN_MANIFEST)],
    ['packing-manifest', encodeManifest(PACKING_MANIFEST)],
    ['log-header', encodeLogHeader(LOG_HEADER).subarray(0, 72)],
    ['linked-log-header', encodeLogHeader(LINKED_LOG_HEADER).subarray(0, 84)],
    ['write-record-prefix', record(WRITE_RECORD)],
    ['zero-record', record(ZERO_RECORD)],
    ['chunk-header', chunk.subarray(0, 92)],
    ['copies-header', encodeChunkHeader(COPIES).subarray(0, 92)],
    ['chunk-tail', chunk.subarray(CHUNK_HEADER_BYTES + CHUNK_BLOCKS.length * BLOCK_BYTES)],
    ['synced-mark', encodeSyncedMark(MARK)],
    ['remote-claim', encodeClaim(CLAIM)],
    ['remote-root', encodeRemoteRoot(REMOTE_ROOT)],
    ['remote-hot-list', encodeHotList(HOT_LIST)],
    ['checkpoint-header', encodeCheckpointHeader(CHECKPOINT)],
    ['checkpoint-footer', encodeCheckpointFooter(CHECKPOINT, { ...REFERENCE, number: 8, epoch: 9 })],
    ['leaf', encodeLeaf(2 ** 25, RUNS)],
    ['node', encodeNode(2 ** 20, NODE)],
    ['catalogue-page', encodeCataloguePage(0, CATALOGUE)],
    ['root', encodeRoot(8, ROOT)],
  ]);
}

/** One block full of `a`, as an LZ4 block made by hand: a literal, a match of 4090 bytes at offset 1, five literals. */
export const PACKED_BLOCK = Uint8Array.from([0x1f, 0x61, 1, 0, ...Array<number>(15).fill(255), 246, 0x50, ...Array<number>(5).fill(0x61)]);
export const LOG_HEADER_2 = { ...LOG_HEADER, version: LOG_VERSION.COMPRESSED };
export const PACKED_RECORD = { ...WRITE_RECORD, lsn: 2 ** 34 + 13, blockCount: 1, codec: RECORD_CODEC.LZ4, storedBytes: PACKED_BLOCK.length, storedChecksum: checksum(PACKED_BLOCK) };

function packedRecord(): Uint8Array {
  const prefixBytes = recordPrefixBytes(PACKED_RECORD.kind, 1);
  const bytes = new Uint8Array(prefixBytes + paddedBytes(PACKED_BLOCK.length));
  encodeRecordPrefix(bytes, new DataView(bytes.buffer), 0, PACKED_RECORD, RECORD_CONTEXT, Uint32Array.of(checksum(Buffer.alloc(BLOCK_BYTES, 'a'))), 0);
  bytes.set(PACKED_BLOCK, prefixBytes);
  return bytes;
}

/** A chunk of a frame as it is, of two blocks, and one of that LZ4 block. */
export function packedChunk(): Uint8Array {
  const blocks = [Buffer.alloc(BLOCK_BYTES, 1), Buffer.alloc(BLOCK_BYTES, 2), Buffer.alloc(BLOCK_BYTES, 'a')];
  const plainBytes = 2 * BLOCK_BYTES;
  const frames = [
    { codec: FRAME_CODEC.NONE, offset: CHUNK_HEADER_BYTES, storedBytes: plainBytes, plainBytes, checksum: 0 },
    { codec: FRAME_CODEC.LZ4, offset: CHUNK_HEADER_BYTES + plainBytes, storedBytes: PACKED_BLOCK.length, plainBytes: BLOCK_BYTES, checksum: checksum(PACKED_BLOCK) },
  ];
  const header = encodeChunkHeader(CHUNK, CHUNK_VERSION.PACKED);
  const tail = encodeChunkTail(CHUNK, header, { blockNumbers: CHUNK_BLOCKS, checksums: Uint32Array.from(blocks, (block) => checksum(block)) }, RANGES, frames);
  return new Uint8Array(Buffer.concat([header, blocks[0], blocks[1], PACKED_BLOCK, tail]));
}

/** What version 2 changes. */
export function structures2(): Map<string, Uint8Array> {
  return new Map<string, Uint8Array>([
    ['log-header', encodeLogHeader(LOG_HEADER_2).subarray(0, 72)],
    ['resized-manifest', encodeManifest(RESIZED_MANIFEST)],
    ['packed-record', packedRecord()],
    ['packed-chunk-header', packedChunk().subarray(0, 92)],
    ['packed-chunk-tail', packedChunk().subarray(CHUNK_HEADER_BYTES + 2 * BLOCK_BYTES + PACKED_BLOCK.length)],
  ]);
}
