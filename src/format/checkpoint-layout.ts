/**
 * A checkpoint: the block map as of an LSN, as an immutable object of pages. A page that did not change since an earlier
 * checkpoint stays where it is: references name the checkpoint that holds it.
 *
 * | offset | size | part |
 * |---|---|---|
 * | 0 | 96 | header |
 * | 96 | any | pages, each at a multiple of 8: leaves, nodes, catalogue pages, at last the root |
 * | end - 64 | 64 | footer |
 *
 * Header: 0 magic `BASALTCK`, 8 u32 version 1, 12 u32 block size, 16 volume id, 32 u64 epoch, 40 u64 checkpoint number (from 1),
 * 48 u64 last chunk covered, 56 u64 last LSN covered, 64 u64 volume size in bytes, 72 16 bytes zero, 88 u32 CRC-32 of bytes 0
 * to 87, 92 u32 zero.
 *
 * Footer: 0 magic `BASALTKF`, 8 u32 version 1, 12 u32 root length, 16 u64 root offset, 24 u32 root CRC-32, 28 u32 CRC-32 of the
 * header's bytes 0 to 87, 32 u64 checkpoint number, 40 20 bytes zero, 60 u32 CRC-32 of bytes 0 to 59.
 *
 * Every page: 0 u32 magic, 4 u32 number of entries, 8 u64 index of the page, 16 entries.
 *
 * | page | magic | index | entry |
 * |---|---|---|---|
 * | leaf | `BMLF` | block / 1024 | 12 bytes, a run: u16 first place (block mod 1024), u16 blocks, u32 chunk (0: provisioned zeroes; 2^32-1: lost, so a read fails), u16 slot of the first block in the chunk's block table, u16 zero |
 * | node | `BMND` | leaf / 1024 | 32 bytes: u32 place (leaf mod 1024), u32 zero, reference |
 * | catalogue | `BMCT` | chunk / 1024 | 16 bytes: u16 place, u16 live blocks, u16 blocks, u16 zero, u32 bytes of the object, u32 epoch |
 * | root | `BMRT` | checkpoint number | see below |
 *
 * Root entries, 32 bytes each: nodes, then catalogue pages, then checkpoint objects that are referred to; behind them 24
 * bytes: u64 number of nodes, u64 of catalogue pages, u64 of objects. A node or catalogue entry: u64 index, reference. An
 * object entry: u64 number, u64 epoch, u64 bytes of the object before its root, u64 bytes of its pages that are in use.
 *
 * Reference (24 bytes): u32 checkpoint number, u32 its epoch, u64 offset, u32 length, u32 CRC-32 of the page.
 *
 * Valid if and only if magics, versions and CRCs are right, header and footer name the expected volume and number; a page is
 * valid if and only if its bytes have the CRC of its reference, its magic and index are right, its entries fill it, and runs
 * ascend without overlap and stay inside the leaf.
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import { corrupt, readU64, viewOf, writeU64 } from './bytes.ts';

export const CHECKPOINT_HEADER_BYTES = 96;
export const CHECKPOINT_FOOTER_BYTES = 64;
export const CHECKPOINT_VERSION = 1;
export const PAGE_HEADER_BYTES = 16;
export const RUN_BYTES = 12;
export const NODE_ENTRY_BYTES = 32;
export const CATALOGUE_ENTRY_BYTES = 16;
export const ROOT_ENTRY_BYTES = 32;
/** Blocks in a leaf, leaves in a node, chunks in a catalogue page. */
export const PAGE_FANOUT = 1024;

export const PAGE_MAGIC = { LEAF: 'BMLF', NODE: 'BMND', CATALOGUE: 'BMCT', ROOT: 'BMRT' } as const;
export type PageMagic = (typeof PAGE_MAGIC)[keyof typeof PAGE_MAGIC];

const HEADER_MAGIC = Buffer.from('BASALTCK', 'latin1');
const FOOTER_MAGIC = Buffer.from('BASALTKF', 'latin1');
const HEADER_CRC_OFFSET = 88;
const FOOTER_CRC_OFFSET = 60;

/** Where a page stands. */
export interface PageReference {
  readonly number: number;
  readonly epoch: number;
  readonly offset: number;
  readonly length: number;
  readonly checksum: number;
}

export interface CheckpointIdentity {
  readonly volumeId: Uint8Array;
  readonly blockSizeBytes: number;
  readonly sizeBytes: number;
  readonly epoch: number;
  readonly number: number;
  readonly lastChunk: number;
  readonly lastLsn: number;
}

/** Consecutive blocks of a leaf that stand in consecutive slots of one chunk; chunk 0: provisioned zeroes; 2^32-1: lost. */
export interface Run {
  readonly place: number;
  readonly blockCount: number;
  readonly chunk: number;
  readonly slot: number;
}

export interface NodeEntry {
  readonly place: number;
  readonly reference: PageReference;
}

export interface CatalogueEntry {
  readonly place: number;
  readonly liveBlocks: number;
  readonly blockCount: number;
  readonly objectBytes: number;
  readonly epoch: number;
}

export interface IndexedReference {
  readonly index: number;
  readonly reference: PageReference;
}

/** A checkpoint object that the block map still refers to. */
export interface CheckpointObject {
  readonly number: number;
  readonly epoch: number;
  readonly objectBytes: number;
  readonly liveBytes: number;
}

export interface Root {
  readonly nodes: readonly IndexedReference[];
  readonly catalogue: readonly IndexedReference[];
  readonly objects: readonly CheckpointObject[];
}

export function encodeCheckpointHeader(identity: CheckpointIdentity): Uint8Array {
  const bytes = new Uint8Array(CHECKPOINT_HEADER_BYTES);
  const view = viewOf(bytes);
  bytes.set(HEADER_MAGIC, 0);
  view.setUint32(8, CHECKPOINT_VERSION, true);
  view.setUint32(12, identity.blockSizeBytes, true);
  bytes.set(identity.volumeId, 16);
  writeU64(view, 32, identity.epoch);
  writeU64(view, 40, identity.number);
  writeU64(view, 48, identity.lastChunk);
  writeU64(view, 56, identity.lastLsn);
  writeU64(view, 64, identity.sizeBytes);
  view.setUint32(HEADER_CRC_OFFSET, checksum(bytes.subarray(0, HEADER_CRC_OFFSET)), true);
  return bytes;
}

/** Decodes and checks a header; it must be the one of `expected`. Errors: `corrupt`, `unsupported`. */
export function decodeCheckpointHeader(bytes: Uint8Array, expected: CheckpointIdentity, name: string): void {
  if (bytes.length < CHECKPOINT_HEADER_BYTES) throw corrupt(name, `${bytes.length} bytes long, shorter than a header`, 0);
  const view = viewOf(bytes);
  if (HEADER_MAGIC.compare(bytes, 0, 8) !== 0) throw corrupt(name, 'not a checkpoint (wrong magic)', 0);
  const stored = view.getUint32(HEADER_CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, HEADER_CRC_OFFSET));
  if (stored !== computed) throw corrupt(name, `header checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, HEADER_CRC_OFFSET);
  checkVersion(view.getUint32(8, true), name);
  const wanted = encodeCheckpointHeader(expected);
  const difference = wanted.findIndex((byte, index) => byte !== bytes[index]);
  if (difference >= 0) throw corrupt(name, 'header names another volume or checkpoint than the manifest does', difference);
}

export function encodeCheckpointFooter(identity: CheckpointIdentity, root: PageReference): Uint8Array {
  const bytes = new Uint8Array(CHECKPOINT_FOOTER_BYTES);
  const view = viewOf(bytes);
  bytes.set(FOOTER_MAGIC, 0);
  view.setUint32(8, CHECKPOINT_VERSION, true);
  view.setUint32(12, root.length, true);
  writeU64(view, 16, root.offset);
  view.setUint32(24, root.checksum, true);
  view.setUint32(28, checksum(encodeCheckpointHeader(identity).subarray(0, HEADER_CRC_OFFSET)), true);
  writeU64(view, 32, identity.number);
  view.setUint32(FOOTER_CRC_OFFSET, checksum(bytes.subarray(0, FOOTER_CRC_OFFSET)), true);
  return bytes;
}

/** Decodes and checks the footer of an object of `objectBytes`; returns where its root stands. */
export function decodeCheckpointFooter(bytes: Uint8Array, objectBytes: number, identity: { number: number; epoch: number }, name: string): PageReference {
  const base = objectBytes - CHECKPOINT_FOOTER_BYTES;
  if (bytes.length !== CHECKPOINT_FOOTER_BYTES || base < CHECKPOINT_HEADER_BYTES) throw corrupt(name, `${objectBytes} bytes long, too short for a checkpoint`, 0);
  const view = viewOf(bytes);
  if (FOOTER_MAGIC.compare(bytes, 0, 8) !== 0) throw corrupt(name, 'no footer (wrong magic): the object is cut or damaged', base);
  const stored = view.getUint32(FOOTER_CRC_OFFSET, true);
  const computed = checksum(bytes.subarray(0, FOOTER_CRC_OFFSET));
  if (stored !== computed) throw corrupt(name, `footer checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, base + FOOTER_CRC_OFFSET);
  checkVersion(view.getUint32(8, true), name);
  const root = { number: identity.number, epoch: identity.epoch, offset: readU64(view, 16), length: view.getUint32(12, true), checksum: view.getUint32(24, true) };
  const fits = root.offset >= CHECKPOINT_HEADER_BYTES && root.offset + root.length <= base;
  if (readU64(view, 32) !== identity.number || !fits) throw corrupt(name, 'footer names another checkpoint or an impossible root', base);
  return root;
}

function checkVersion(version: number, name: string): void {
  if (version !== CHECKPOINT_VERSION) throw new VolumeError('unsupported', `${name}: format version ${version}; this basalt reads version ${CHECKPOINT_VERSION}: use a newer one`);
}

function newPage(magic: PageMagic, index: number, entries: number, length: number): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(length);
  const view = viewOf(bytes);
  bytes.set(Buffer.from(magic, 'latin1'), 0);
  view.setUint32(4, entries, true);
  writeU64(view, 8, index);
  return { bytes, view };
}

/** Checks a page against its reference; returns its view and number of entries. */
function openPage(bytes: Uint8Array, magic: PageMagic, index: number, reference: PageReference, entryBytes: number, extraBytes: number, name: string) {
  const computed = checksum(bytes);
  if (bytes.length !== reference.length || computed !== reference.checksum) {
    throw corrupt(name, `page checksum ${formatChecksum(computed)}, expected ${formatChecksum(reference.checksum)}`, reference.offset);
  }
  const view = viewOf(bytes);
  const headed = bytes.length >= PAGE_HEADER_BYTES + extraBytes && Buffer.from(magic, 'latin1').compare(bytes, 0, 4) === 0;
  if (!headed || readU64(view, 8) !== index) throw corrupt(name, `not the ${magic} page ${index}`, reference.offset);
  const count = view.getUint32(4, true);
  if (PAGE_HEADER_BYTES + count * entryBytes + extraBytes !== bytes.length) throw corrupt(name, `${count} entries do not fill a page of ${bytes.length} bytes`, reference.offset);
  return { view, count };
}

function writeReference(view: DataView, at: number, reference: PageReference): void {
  view.setUint32(at, reference.number, true);
  view.setUint32(at + 4, reference.epoch, true);
  writeU64(view, at + 8, reference.offset);
  view.setUint32(at + 16, reference.length, true);
  view.setUint32(at + 20, reference.checksum, true);
}

function readReference(view: DataView, at: number): PageReference {
  return {
    number: view.getUint32(at, true),
    epoch: view.getUint32(at + 4, true),
    offset: readU64(view, at + 8),
    length: view.getUint32(at + 16, true),
    checksum: view.getUint32(at + 20, true),
  };
}

export function encodeLeaf(index: number, runs: readonly Run[]): Uint8Array {
  const { bytes, view } = newPage(PAGE_MAGIC.LEAF, index, runs.length, PAGE_HEADER_BYTES + runs.length * RUN_BYTES);
  let at = PAGE_HEADER_BYTES;
  for (const run of runs) {
    view.setUint16(at, run.place, true);
    view.setUint16(at + 2, run.blockCount, true);
    view.setUint32(at + 4, run.chunk, true);
    view.setUint16(at + 8, run.slot, true);
    at += RUN_BYTES;
  }
  return bytes;
}

export function decodeLeaf(bytes: Uint8Array, index: number, reference: PageReference, name: string): Run[] {
  const { view, count } = openPage(bytes, PAGE_MAGIC.LEAF, index, reference, RUN_BYTES, 0, name);
  const runs: Run[] = [];
  let end = 0;
  for (let i = 0; i < count; i += 1) {
    const at = PAGE_HEADER_BYTES + i * RUN_BYTES;
    const run = { place: view.getUint16(at, true), blockCount: view.getUint16(at + 2, true), chunk: view.getUint32(at + 4, true), slot: view.getUint16(at + 8, true) };
    if (run.place < end || run.blockCount === 0 || run.place + run.blockCount > PAGE_FANOUT) throw corrupt(name, `run ${i} of leaf ${index} is impossible`, reference.offset + at);
    end = run.place + run.blockCount;
    runs.push(run);
  }
  return runs;
}

export function encodeNode(index: number, entries: readonly NodeEntry[]): Uint8Array {
  const { bytes, view } = newPage(PAGE_MAGIC.NODE, index, entries.length, PAGE_HEADER_BYTES + entries.length * NODE_ENTRY_BYTES);
  let at = PAGE_HEADER_BYTES;
  for (const entry of entries) {
    view.setUint32(at, entry.place, true);
    writeReference(view, at + 8, entry.reference);
    at += NODE_ENTRY_BYTES;
  }
  return bytes;
}

export function decodeNode(bytes: Uint8Array, index: number, reference: PageReference, name: string): NodeEntry[] {
  const { view, count } = openPage(bytes, PAGE_MAGIC.NODE, index, reference, NODE_ENTRY_BYTES, 0, name);
  const entries: NodeEntry[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = PAGE_HEADER_BYTES + i * NODE_ENTRY_BYTES;
    const place = view.getUint32(at, true);
    if (place >= PAGE_FANOUT) throw corrupt(name, `entry ${i} of node ${index} is impossible`, reference.offset + at);
    entries.push({ place, reference: readReference(view, at + 8) });
  }
  return entries;
}

export function encodeCataloguePage(index: number, entries: readonly CatalogueEntry[]): Uint8Array {
  const { bytes, view } = newPage(PAGE_MAGIC.CATALOGUE, index, entries.length, PAGE_HEADER_BYTES + entries.length * CATALOGUE_ENTRY_BYTES);
  let at = PAGE_HEADER_BYTES;
  for (const entry of entries) {
    view.setUint16(at, entry.place, true);
    view.setUint16(at + 2, entry.liveBlocks, true);
    view.setUint16(at + 4, entry.blockCount, true);
    view.setUint32(at + 8, entry.objectBytes, true);
    view.setUint32(at + 12, entry.epoch, true);
    at += CATALOGUE_ENTRY_BYTES;
  }
  return bytes;
}

export function decodeCataloguePage(bytes: Uint8Array, index: number, reference: PageReference, name: string): CatalogueEntry[] {
  const { view, count } = openPage(bytes, PAGE_MAGIC.CATALOGUE, index, reference, CATALOGUE_ENTRY_BYTES, 0, name);
  const entries: CatalogueEntry[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = PAGE_HEADER_BYTES + i * CATALOGUE_ENTRY_BYTES;
    const entry = {
      place: view.getUint16(at, true),
      liveBlocks: view.getUint16(at + 2, true),
      blockCount: view.getUint16(at + 4, true),
      objectBytes: view.getUint32(at + 8, true),
      epoch: view.getUint32(at + 12, true),
    };
    if (entry.place >= PAGE_FANOUT || entry.liveBlocks > entry.blockCount) throw corrupt(name, `entry ${i} of catalogue page ${index} is impossible`, reference.offset + at);
    entries.push(entry);
  }
  return entries;
}

const ROOT_COUNTS_BYTES = 24;

export function encodeRoot(number: number, root: Root): Uint8Array {
  const entries = root.nodes.length + root.catalogue.length + root.objects.length;
  const length = PAGE_HEADER_BYTES + entries * ROOT_ENTRY_BYTES + ROOT_COUNTS_BYTES;
  const { bytes, view } = newPage(PAGE_MAGIC.ROOT, number, entries, length);
  let at = PAGE_HEADER_BYTES;
  for (const { index, reference } of [...root.nodes, ...root.catalogue]) {
    writeU64(view, at, index);
    writeReference(view, at + 8, reference);
    at += ROOT_ENTRY_BYTES;
  }
  for (const object of root.objects) {
    writeU64(view, at, object.number);
    writeU64(view, at + 8, object.epoch);
    writeU64(view, at + 16, object.objectBytes);
    writeU64(view, at + 24, object.liveBytes);
    at += ROOT_ENTRY_BYTES;
  }
  writeU64(view, at, root.nodes.length);
  writeU64(view, at + 8, root.catalogue.length);
  writeU64(view, at + 16, root.objects.length);
  return bytes;
}

export function decodeRoot(bytes: Uint8Array, reference: PageReference, name: string): Root {
  const { view, count } = openPage(bytes, PAGE_MAGIC.ROOT, reference.number, reference, ROOT_ENTRY_BYTES, ROOT_COUNTS_BYTES, name);
  const countsAt = bytes.length - ROOT_COUNTS_BYTES;
  const [nodes, catalogue, objects] = [readU64(view, countsAt), readU64(view, countsAt + 8), readU64(view, countsAt + 16)];
  if (nodes < 0 || catalogue < 0 || objects < 0 || nodes + catalogue + objects !== count) throw corrupt(name, 'the counts of the root do not fit its length', reference.offset);
  const references = (first: number, length: number): IndexedReference[] =>
    Array.from({ length }, (_, i) => {
      const at = PAGE_HEADER_BYTES + (first + i) * ROOT_ENTRY_BYTES;
      return { index: readU64(view, at), reference: readReference(view, at + 8) };
    });
  const objectAt = (i: number): CheckpointObject => {
    const at = PAGE_HEADER_BYTES + (nodes + catalogue + i) * ROOT_ENTRY_BYTES;
    return { number: readU64(view, at), epoch: readU64(view, at + 8), objectBytes: readU64(view, at + 16), liveBytes: readU64(view, at + 24) };
  };
  return {
    nodes: references(0, nodes),
    catalogue: references(nodes, catalogue),
    objects: Array.from({ length: objects }, (_, i) => objectAt(i)),
  };
}
