import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { checksum } from '../../src/base/checksum.ts';
import { decodeCataloguePage, decodeCheckpointFooter, decodeCheckpointHeader, decodeLeaf, decodeNode, decodeRoot } from '../../src/format/checkpoint-layout.ts';
import { BLOCK_ENTRY_BYTES, CHUNK_FOOTER_BYTES, type ChunkFooter, type ChunkTables, FRAME_ENTRY_BYTES, decodeChunkFooter, decodeChunkHeader, decodeChunkTables, encodeChunkHeader, isCopy } from '../../src/format/chunk-layout.ts';
import { DecodedRecord, LOG_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_KIND, type RecordFields, decodeLogHeader, decodeRecord, encodeLogHeader, encodeRecordPrefix, recordPrefixBytes, verifiedPayload } from '../../src/format/log-record.ts';
import { decodeManifest } from '../../src/format/manifest.ts';
import { claimKey, decodeClaim, decodeHotList, decodeRoot as decodeRemoteRoot, encodeClaim, parseClaimKey, parseRootKey, releaseKey, rootKey } from '../../src/format/remote-records.ts';
import { decodeSyncedMark } from '../../src/format/synced-mark.ts';
import * as golden from './structures.ts';

const FILE = new URL('version-1.json', import.meta.url);
const FILE_2 = new URL('version-2.json', import.meta.url);

function goldenBytes(file = FILE): Map<string, Buffer> {
  const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
  const entries = typeof parsed === 'object' && parsed !== null ? Object.entries(parsed) : [];
  return new Map(entries.map(([name, hex]) => [name, Buffer.from(String(hex), 'hex')]));
}

function bytesOf(name: string, file = FILE): Buffer {
  const bytes = goldenBytes(file).get(name);
  if (bytes === undefined) throw new Error(`there are no golden bytes of ${name}`);
  return bytes;
}

function flippedAt(bytes: Buffer, at: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[at] ^= 1 << at % 8;
  return flipped;
}

function referenceTo(bytes: Uint8Array) {
  return { number: 8, epoch: 9, offset: 96, length: bytes.length, checksum: checksum(bytes) };
}

if (process.env.BASALT_WRITE_GOLDEN === '1') {
  for (const [file, structures] of [[FILE, golden.structures()], [FILE_2, golden.structures2()]] as const) {
    const hex = Object.fromEntries([...structures].map(([name, bytes]) => [name, Buffer.from(bytes).toString('hex')]));
    writeFileSync(file, `${JSON.stringify(hex, null, 2)}\n`);
  }
}

describe('format version 1', () => {
  test.each([...golden.structures()])('%s is encoded to its golden bytes', (name, bytes) => {
    expect(Buffer.from(bytes).toString('hex')).toBe(bytesOf(name).toString('hex'));
  });

  test('every golden structure is still written', () => {
    expect([...goldenBytes().keys()]).toEqual([...golden.structures().keys()]);
  });

  test('the golden manifest decodes to what was encoded', () => {
    expect(decodeManifest(bytesOf('manifest'), 'manifest')).toEqual(golden.MANIFEST);
  });

  test('a manifest that says how the log is best written differs in one byte that was zero, and in its checksum', () => {
    const [bytes, measured] = [bytesOf('manifest'), bytesOf('measured-manifest')];
    expect(decodeManifest(measured, 'manifest')).toEqual(golden.MEASURED_MANIFEST);
    expect([...bytes.keys()].filter((at) => bytes[at] !== measured[at] && at < 508)).toEqual([45]);
    measured[45] = 3;
    measured.writeUInt32LE(checksum(measured.subarray(0, 508)), 508);
    expect(() => decodeManifest(measured, 'manifest')).toThrow('way 3 to write the log is not known');
  });

  test.each([['plain-manifest', golden.PLAIN_MANIFEST], ['packing-manifest', golden.PACKING_MANIFEST]] as const)('the %s, of a volume that says whether its chunks are compressed, differs in one byte that was zero, and in its checksum', (name, manifest) => {
    const [before, bytes] = [bytesOf('measured-manifest'), bytesOf(name)];
    expect(decodeManifest(bytes, 'manifest')).toEqual(manifest);
    expect([...bytes.keys()].filter((at) => bytes[at] !== before[at] && at < 508)).toEqual([46]);
    bytes[46] = 3;
    bytes.writeUInt32LE(checksum(bytes.subarray(0, 508)), 508);
    expect(() => decodeManifest(bytes, 'manifest')).toThrow('compression 3 is not known; use a newer basalt');
  });

  test('a manifest of a volume that was resized is of version 2, and says its sizes behind the rest', () => {
    const [bytes, resized] = [bytesOf('manifest'), bytesOf('resized-manifest', FILE_2)];
    expect(decodeManifest(resized, 'manifest')).toEqual(golden.RESIZED_MANIFEST);
    const changed = [...bytes.keys()].filter((at) => bytes[at] !== resized[at] && at < 508);
    expect(changed.every((at) => at === 8 || (at >= 128 && at < 144))).toBe(true);
    for (const [offset, value, message] of [[128, 4096 * 2 ** 31, 'is more than the largest there was'], [128, 0, 'size 0 is not a positive multiple'], [136, 2 ** 42 + 4097, 'size 4398046515201 is not a positive multiple'], [32, 2 ** 43, 'is more than the largest']] as const) {
      const wrong = Buffer.from(resized);
      wrong.writeBigUInt64LE(BigInt(value), offset);
      wrong.writeUInt32LE(checksum(wrong.subarray(0, 508)), 508);
      expect(() => decodeManifest(wrong, 'manifest'), `${offset}: ${value}`).toThrow(message);
    }
    resized[8] = 3;
    resized.writeUInt32LE(checksum(resized.subarray(0, 508)), 508);
    expect(() => decodeManifest(resized, 'manifest')).toThrow('format version 3; this basalt reads versions 1 and 2');
  });

  test('the golden log header and records decode to what was encoded', () => {
    const header = Buffer.concat([bytesOf('log-header'), Buffer.alloc(LOG_HEADER_BYTES - 72)]);
    expect(decodeLogHeader(header, { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, fileIndex: 3 })).toEqual(golden.LOG_HEADER);
    for (const [name, fields] of [['write-record-prefix', golden.WRITE_RECORD], ['zero-record', golden.ZERO_RECORD]] as const) {
      const bytes = Buffer.concat([bytesOf(name), Buffer.alloc(3 * golden.BLOCK_BYTES)]);
      const record = new DecodedRecord();
      expect(decodeRecord(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, golden.RECORD_CONTEXT, record)).toBe('valid');
      expect(record).toMatchObject(fields);
    }
  });

  test('a log header that names the life before it differs in bytes that were zero; without their checksum they name none', () => {
    const linked = Buffer.concat([bytesOf('linked-log-header'), Buffer.alloc(LOG_HEADER_BYTES - 84)]);
    const expected = { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, fileIndex: 3 };
    expect(decodeLogHeader(linked, expected)).toEqual(golden.LINKED_LOG_HEADER);
    expect(linked.subarray(0, 72).equals(bytesOf('log-header'))).toBe(true);
    for (let at = 72; at < 84; at += 1) expect(decodeLogHeader(flippedAt(linked, at), expected), `byte ${at}`).toEqual(golden.LOG_HEADER);
    // A torn write: the file's earlier life had another header.
    const older = encodeLogHeader({ ...golden.LINKED_LOG_HEADER, generation: 5 * 2 ** 24 + 2, previousGeneration: 5 * 2 ** 24 + 1 });
    older.set(linked.subarray(0, 72));
    expect(decodeLogHeader(older, expected)).toEqual(golden.LOG_HEADER);
  });

  test('the golden chunk decodes to what was encoded', () => {
    const chunk = golden.chunkObject();
    chunk.set(bytesOf('chunk-header'), 0);
    const tail = bytesOf('chunk-tail');
    chunk.set(tail, chunk.length - tail.length);
    expect(decodeChunkHeader(chunk, { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, chunkNumber: 41 }, 'chunk')).toEqual(golden.CHUNK);
    const footer = decodeChunkFooter(chunk.subarray(chunk.length - CHUNK_FOOTER_BYTES), chunk.length, 41, 'chunk');
    const tables = decodeChunkTables(chunk.subarray(footer.tablesOffset, footer.tablesOffset + footer.tablesLength), footer, golden.BLOCK_BYTES, 2 ** 36, 'chunk');
    expect(tables.ranges).toEqual(golden.RANGES);
    expect([...tables.blockNumbers]).toEqual([...golden.CHUNK_BLOCKS]);
    expect([...tables.offsets]).toEqual([4096, 8192, 12288]);
    expect([...tables.checksums]).toEqual([1, 2, 3].map((value) => checksum(Buffer.alloc(golden.BLOCK_BYTES, value))));
  });

  test('the golden header of copies decodes to what was encoded, and only with the range of LSNs that goes with its kind', () => {
    const expected = { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, chunkNumber: 42 };
    const header = Buffer.concat([bytesOf('copies-header'), Buffer.alloc(4096 - 92)]);
    expect(decodeChunkHeader(header, expected, 'chunk')).toEqual(golden.COPIES);
    expect(isCopy(golden.COPIES)).toBe(true);
    expect(isCopy(golden.CHUNK)).toBe(false);
    for (const [kind, lastLsn] of [[0, golden.COPIES.lastLsn], [1, golden.COPIES.firstLsn], [1, golden.COPIES.lastLsn - 1]]) {
      const wrong = Buffer.from(encodeChunkHeader({ ...golden.COPIES, lastLsn }));
      wrong[80] = kind;
      wrong.writeUInt32LE(checksum(wrong.subarray(0, 88)), 88);
      expect(() => decodeChunkHeader(wrong, expected, 'chunk'), `kind ${kind}, last LSN ${lastLsn}`).toThrow(/LSN range is impossible/);
    }
  });

  test.each([
    ['remote-claim', decodeClaim, golden.CLAIM],
    ['remote-root', decodeRemoteRoot, golden.REMOTE_ROOT],
    ['remote-hot-list', decodeHotList, golden.HOT_LIST],
  ] as const)('the golden %s decodes to what was encoded, and is refused with any bit flipped, or a byte more or less', (name, decode, encoded) => {
    const bytes = bytesOf(name);
    expect(decode(bytes, name)).toEqual(encoded);
    for (let at = 0; at < bytes.length; at += 1) expect(() => decode(flippedAt(bytes, at), name), `byte ${at}`).toThrow(name);
    expect(() => decode(bytes.subarray(1), name)).toThrow('bytes long');
    expect(() => decode(Buffer.concat([bytes, Buffer.alloc(1)]), name)).toThrow('bytes long');
  });

  test('the name of a host is cut between characters', () => {
    expect(decodeClaim(encodeClaim({ ...golden.CLAIM, host: 'ä'.repeat(100) }), 'claim').host).toBe('ä'.repeat(64));
    expect(decodeClaim(encodeClaim({ ...golden.CLAIM, host: `x${'ä'.repeat(100)}` }), 'claim').host).toBe(`x${'ä'.repeat(63)}`);
  });

  test('keys of claims and roots are told apart', () => {
    expect([claimKey(7), releaseKey(7), rootKey(7, 42)]).toEqual(['epochs/e000007', 'epochs/e000007-released', 'roots/e000007-k0000000042']);
    expect([parseClaimKey(claimKey(1_234_567)), parseClaimKey(releaseKey(7)), parseClaimKey('epochs/e7')]).toEqual([1_234_567, null, null]);
    expect([parseRootKey(rootKey(7, 42)), parseRootKey('roots/x')]).toEqual([{ epoch: 7, checkpoint: 42 }, null]);
  });

  test('the golden mark decodes to what was encoded, and is none with a bit flipped or a byte less', () => {
    const bytes = bytesOf('synced-mark');
    expect(decodeSyncedMark(bytes)).toEqual(golden.MARK);
    expect(decodeSyncedMark(bytes.subarray(0, 63))).toBeNull();
    for (let at = 0; at < bytes.length; at += 1) {
      const flipped = Buffer.from(bytes);
      flipped[at] ^= 1 << at % 8;
      expect(decodeSyncedMark(flipped), `byte ${at}`).toBeNull();
    }
  });

  test('the golden checkpoint decodes to what was encoded', () => {
    expect(() => decodeCheckpointHeader(bytesOf('checkpoint-header'), golden.CHECKPOINT, 'checkpoint')).not.toThrow();
    const footer = bytesOf('checkpoint-footer');
    expect(decodeCheckpointFooter(footer, 2 ** 41, { number: 8, epoch: 9 }, 'checkpoint')).toEqual({ number: 8, epoch: 9, offset: 2 ** 40 + 96, length: 4242, checksum: 0xdeadbeef });
    const [leaf, node, page, root] = ['leaf', 'node', 'catalogue-page', 'root'].map((name) => bytesOf(name));
    expect(decodeLeaf(leaf, 2 ** 25, referenceTo(leaf), 'checkpoint')).toEqual(golden.RUNS);
    expect(decodeNode(node, 2 ** 20, referenceTo(node), 'checkpoint')).toEqual(golden.NODE);
    expect(decodeCataloguePage(page, 0, referenceTo(page), 'checkpoint')).toEqual(golden.CATALOGUE);
    expect(decodeRoot(root, referenceTo(root), 'checkpoint')).toEqual(golden.ROOT);
  });
});

/** The blocks of a record, why it is none, or null if its payload is not right. */
function decodePacked(bytes: Buffer): Uint8Array | string | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const record = new DecodedRecord();
  return decodeRecord(bytes, view, 0, golden.RECORD_CONTEXT, record) === 'valid' ? verifiedPayload(bytes, view, record, golden.BLOCK_BYTES) : record.reason;
}

/** What becomes of a record whose header says something else about its payload. */
function decodeChanged(change: Partial<RecordFields>): Uint8Array | string | null {
  const fields = { ...golden.PACKED_RECORD, ...change };
  const bytes = Buffer.alloc(recordPrefixBytes(fields.kind, fields.blockCount) + 8192);
  encodeRecordPrefix(bytes, new DataView(bytes.buffer, bytes.byteOffset), 0, fields, golden.RECORD_CONTEXT, new Uint32Array(fields.blockCount), 0);
  return decodePacked(bytes);
}

function tailOf(chunk: Uint8Array): { readonly footer: ChunkFooter; readonly tables: Uint8Array } {
  const footer = decodeChunkFooter(chunk.subarray(chunk.length - CHUNK_FOOTER_BYTES), chunk.length, 41, 'chunk');
  return { footer, tables: chunk.subarray(footer.tablesOffset, footer.tablesOffset + footer.tablesLength) };
}

/** The tables of a chunk, decoded, after a change under a right checksum. */
function tablesOf(chunk: Uint8Array, change: (tables: Buffer) => void = () => undefined): ChunkTables {
  const { footer, tables } = tailOf(chunk);
  change(Buffer.from(tables.buffer, tables.byteOffset, tables.length));
  return decodeChunkTables(tables, { ...footer, tablesChecksum: checksum(tables) }, golden.BLOCK_BYTES, 2 ** 36, 'chunk');
}

describe('format version 2', () => {
  /** Behind the record's payload. */
  const PADDING_BYTES = 6;
  test.each([...golden.structures2()])('%s is encoded to its golden bytes', (name, bytes) => {
    expect(Buffer.from(bytes).toString('hex')).toBe(bytesOf(name, FILE_2).toString('hex'));
  });

  test('the golden log header and the compressed record decode to what was encoded', () => {
    const header = Buffer.concat([bytesOf('log-header', FILE_2), Buffer.alloc(LOG_HEADER_BYTES - 72)]);
    expect(decodeLogHeader(header, { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, fileIndex: 3 })).toEqual(golden.LOG_HEADER_2);
    const bytes = Buffer.from(bytesOf('packed-record', FILE_2));
    const record = new DecodedRecord();
    expect(decodeRecord(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, golden.RECORD_CONTEXT, record)).toBe('valid');
    expect(record).toMatchObject({ ...golden.PACKED_RECORD, endOffset: bytes.length });
    expect(decodePacked(bytes)).toEqual(new Uint8Array(golden.BLOCK_BYTES).fill(0x61));
  });

  test('the golden chunk with a compressed frame decodes to what was encoded', () => {
    const chunk = golden.packedChunk();
    const tail = bytesOf('packed-chunk-tail', FILE_2);
    chunk.set(bytesOf('packed-chunk-header', FILE_2), 0);
    chunk.set(tail, chunk.length - tail.length);
    expect(decodeChunkHeader(chunk, { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, chunkNumber: 41 }, 'chunk')).toEqual(golden.CHUNK);
    const tables = tablesOf(chunk);
    expect([...tables.blockNumbers]).toEqual([...golden.CHUNK_BLOCKS]);
    expect([...tables.offsets]).toEqual([4096, 8192, 0]);
    expect([...(tables.packed?.frameOf ?? [])]).toEqual([0, 0, 1]);
    const offset = 3 * golden.BLOCK_BYTES;
    expect(tables.packed?.frames).toEqual([{ codec: 1, offset, storedBytes: 26, plainBytes: golden.BLOCK_BYTES, checksum: checksum(golden.PACKED_BLOCK) }]);
    expect(chunk.subarray(offset, offset + 26)).toEqual(golden.PACKED_BLOCK);
  });

  const frameAt = 3 * BLOCK_ENTRY_BYTES + FRAME_ENTRY_BYTES;
  test.each<[string, (tables: Buffer) => number, string]>([
    ['stands for more than may be unpacked', (tables) => tables.writeUInt32LE(65537, frameAt + 12), '26 bytes for 65537) is impossible'],
    ['stands for fewer bytes than are stored', (tables) => tables.writeUInt32LE(26, frameAt + 12), '26 bytes for 26) is impossible'],
    ['is empty', (tables) => tables.writeUInt32LE(0, frameAt + 8), '0 bytes for 4096) is impossible'],
    ['reaches into the tables', (tables) => tables.writeUInt32LE(27, frameAt + 8), '27 bytes for 4096) is impossible'],
    ['is of a codec to come', (tables) => tables.writeUInt8(2, frameAt + 20), 'has codec 2, cipher 0; use a newer basalt'],
    ['is encrypted', (tables) => tables.writeUInt8(1, frameAt + 21), 'has codec 1, cipher 1; use a newer basalt'],
    ['has no such place', (tables) => tables.writeUInt16LE(1, 2 * BLOCK_ENTRY_BYTES + 14), 'block table entry 2 is impossible'],
  ])('a compressed frame that %s is refused', (_, change, message) => {
    const chunk = golden.packedChunk();
    expect(() => tablesOf(chunk, (tables) => change(tables))).toThrow(message);
  });

  test('version 1 of a chunk has no compressed frames', () => {
    const chunk = golden.packedChunk();
    const { footer, tables } = tailOf(chunk);
    expect(() => decodeChunkTables(tables, { ...footer, version: 1 }, golden.BLOCK_BYTES, 2 ** 36, 'chunk')).toThrow('frame 1 has codec 1, cipher 0; use a newer basalt');
  });

  test('one flipped bit in any byte of the compressed record is found', () => {
    const whole = bytesOf('packed-record', FILE_2);
    for (let at = 0; at < whole.length - PADDING_BYTES; at += 1) {
      const flipped = Buffer.from(whole);
      flipped[at] ^= 1 << at % 8;
      expect(decodePacked(flipped), `byte ${at}`).toSatisfy((result: unknown) => result === null || typeof result === 'string');
    }
  });

  test('a payload without its checksum is not decoded, not even one that would decode to the blocks', () => {
    const bytes = Buffer.from(bytesOf('packed-record', FILE_2));
    const table = Uint32Array.of(bytes.readUInt32LE(RECORD_HEADER_BYTES));
    const fields = { ...golden.PACKED_RECORD, storedChecksum: golden.PACKED_RECORD.storedChecksum ^ 1 };
    encodeRecordPrefix(bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, fields, golden.RECORD_CONTEXT, table, 0);
    expect(decodePacked(bytes)).toBeNull();
  });

  test('a compressed record says no more than its blocks can be', () => {
    expect(decodeChanged({ storedBytes: golden.BLOCK_BYTES })).toBe('payload of 4096 bytes for 1 blocks');
    expect(decodeChanged({ storedBytes: 0 })).toBe('payload of 0 bytes for 1 blocks');
    expect(decodeChanged({ blockCount: 257 })).toMatch(/^payload of \d+ bytes for 257 blocks$/);
    expect(decodeChanged({ kind: RECORD_KIND.ZERO })).toBe('codec 1 is not known');
  });
});

describe('one flipped bit', () => {
  const decoders: [string, (bytes: Buffer) => unknown][] = [
    ['manifest', (bytes) => decodeManifest(bytes, 'manifest')],
    ['chunk-header', (bytes) => decodeChunkHeader(Buffer.concat([bytes, Buffer.alloc(4096)]), { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, chunkNumber: 41 }, 'chunk')],
    ['copies-header', (bytes) => decodeChunkHeader(Buffer.concat([bytes, Buffer.alloc(4096)]), { volumeId: golden.VOLUME_ID, blockSizeBytes: golden.BLOCK_BYTES, chunkNumber: 42 }, 'chunk')],
    ['checkpoint-header', (bytes) => decodeCheckpointHeader(bytes, golden.CHECKPOINT, 'checkpoint')],
    ['checkpoint-footer', (bytes) => decodeCheckpointFooter(bytes, 2 ** 41, { number: 8, epoch: 9 }, 'checkpoint')],
    ['leaf', (bytes) => decodeLeaf(bytes, 2 ** 25, referenceTo(bytesOf('leaf')), 'checkpoint')],
    ['root', (bytes) => decodeRoot(bytes, referenceTo(bytesOf('root')), 'checkpoint')],
  ];

  test.each(decoders)('in any byte of the %s that its checksum covers is found', (name, decode) => {
    const whole = bytesOf(name);
    const covered = name === 'checkpoint-header' ? whole.length - 4 : whole.length;
    for (let at = 0; at < covered; at += 1) {
      const flipped = Buffer.from(whole);
      flipped[at] ^= 1 << at % 8;
      expect(() => decode(flipped), `byte ${at}`).toThrow(/checkpoint|manifest|chunk/);
    }
  });
});
