/**
 * The kinds of records that a volume has in its bucket, beside chunks and checkpoints, which are there as they are on the disk. Claims and roots are never
 * overwritten: each is put under a key that must be free.
 *
 * A **claim** makes its writer the one that counts. Key `epochs/eNNNNNN`, 256 bytes:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTCL` |
 * | 8 | 4 | format version, 1 |
 * | 12 | 4 | length of this structure, 256 |
 * | 16 | 16 | volume id |
 * | 32 | 8 | epoch, as in the key |
 * | 40 | 16 | writer: random, so that whoever gets no answer to the put can tell its own claim from another one |
 * | 56 | 8 | time, milliseconds since 1970 by the writer's clock |
 * | 64 | 8 | lease, milliseconds: how long after its last sign of life nobody takes over without force |
 * | 72 | 1 | length of the host's name in bytes, at most 128 |
 * | 73 | 128 | name of the host, UTF-8; zero behind it |
 * | 201 | 51 | zero |
 * | 252 | 4 | CRC-32 of bytes 0 to 251 |
 *
 * A **root** is what a volume is recovered from. Key `roots/eNNNNNN-kNNNNNNNNNN`, of the epoch that wrote it and its checkpoint, 640 bytes:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 512 | manifest, as on the disk; its epoch is the one in the key |
 * | 512 | 8 | magic `BASALTRT` |
 * | 520 | 4 | format version, 1 |
 * | 524 | 4 | zero |
 * | 528 | 8 | fence: chunks of earlier epochs count up to this number |
 * | 536 | 8 | time, milliseconds since 1970 by the writer's clock |
 * | 544 | 92 | zero |
 * | 636 | 4 | CRC-32 of bytes 0 to 635 |
 *
 * A **hot list** says which chunks were written or read last, for who makes the volume of its bucket and wants these first. It is a hint: nothing depends on it, it may name
 * chunks that are gone, and it is the one object that is overwritten. Key `hints/hot`, 44 bytes and 4 for each chunk:
 *
 * | offset | size | field |
 * |---|---|---|
 * | 0 | 8 | magic `BASALTHT` |
 * | 8 | 4 | format version, 1 |
 * | 12 | 4 | number of chunks, at most 4096 |
 * | 16 | 16 | volume id |
 * | 32 | 8 | time, milliseconds since 1970 by the writer's clock |
 * | 40 | 4 each | numbers of chunks, the one that was used last first |
 * | end - 4 | 4 | CRC-32 of all before it |
 *
 * The newest root is that of the last epoch, and of the last checkpoint in it. A writer that lost its epoch may still put roots and chunks of its
 * own: chunks above the fence of a later root are none, and roots of an earlier epoch are older.
 */
import { checksum, formatChecksum } from '../base/checksum.ts';
import { VolumeError } from '../base/errors.ts';
import { corrupt, readU64, viewOf, writeU64 } from './bytes.ts';
import { MANIFEST_BYTES, type Manifest, VOLUME_ID_BYTES, decodeManifest, encodeManifest } from './manifest.ts';

export const CLAIM_BYTES = 256;
export const ROOT_BYTES = 640;
export const REMOTE_VERSION = 1;
export const WRITER_BYTES = 16;
export const HOST_BYTES_MAX = 128;
export const HOT_CHUNKS_MAX = 4096;
export const HOT_BYTES_MAX = 44 + 4 * HOT_CHUNKS_MAX;

const CLAIM_MAGIC = Buffer.from('BASALTCL', 'latin1');
const ROOT_MAGIC = Buffer.from('BASALTRT', 'latin1');
const HOT_MAGIC = Buffer.from('BASALTHT', 'latin1');
const HOT_CHUNKS_AT = 40;
const HOST_AT = 73;
const CLAIM_CRC_AT = CLAIM_BYTES - 4;
const ROOT_CRC_AT = ROOT_BYTES - 4;

export interface Claim {
  readonly volumeId: Uint8Array;
  readonly epoch: number;
  readonly writer: Uint8Array;
  readonly timeMs: number;
  readonly leaseMs: number;
  /** At most 128 bytes of it are kept. */
  readonly host: string;
}

export interface RemoteRoot {
  readonly manifest: Manifest;
  readonly fenceChunk: number;
  readonly timeMs: number;
}

export function encodeClaim(claim: Claim): Uint8Array {
  const bytes = new Uint8Array(CLAIM_BYTES);
  const view = viewOf(bytes);
  bytes.set(CLAIM_MAGIC, 0);
  view.setUint32(8, REMOTE_VERSION, true);
  view.setUint32(12, CLAIM_BYTES, true);
  bytes.set(claim.volumeId, 16);
  writeU64(view, 32, claim.epoch);
  bytes.set(claim.writer, 40);
  writeU64(view, 56, claim.timeMs);
  writeU64(view, 64, claim.leaseMs);
  const host = cut(claim.host);
  bytes[72] = host.length;
  bytes.set(host, HOST_AT);
  view.setUint32(CLAIM_CRC_AT, checksum(bytes.subarray(0, CLAIM_CRC_AT)), true);
  return bytes;
}

/** The name's first bytes, whole characters. */
function cut(host: string): Uint8Array {
  const whole = Buffer.from(host, 'utf8');
  let end = Math.min(whole.length, HOST_BYTES_MAX);
  while (end < whole.length && end > 0 && (whole[end] & 0xc0) === 0x80) end -= 1;
  return whole.subarray(0, end);
}

/** Decodes and checks a claim. Errors: `corrupt`; `unsupported` for a later version. `name` is for the message. */
export function decodeClaim(bytes: Uint8Array, name: string): Claim {
  const view = checked(bytes, name, { length: CLAIM_BYTES, magic: CLAIM_MAGIC, magicAt: 0, crcAt: CLAIM_CRC_AT, what: 'claim' });
  const claim = {
    volumeId: new Uint8Array(bytes.subarray(16, 16 + VOLUME_ID_BYTES)),
    epoch: readU64(view, 32),
    writer: new Uint8Array(bytes.subarray(40, 40 + WRITER_BYTES)),
    timeMs: readU64(view, 56),
    leaseMs: readU64(view, 64),
    host: Buffer.from(bytes.subarray(HOST_AT, HOST_AT + Math.min(bytes[72], HOST_BYTES_MAX))).toString('utf8'),
  };
  if (claim.epoch < 1 || claim.timeMs < 0 || claim.leaseMs < 0) throw corrupt(name, 'a counter is out of range', 32);
  return claim;
}

export function encodeRoot(root: RemoteRoot): Uint8Array {
  const bytes = new Uint8Array(ROOT_BYTES);
  const view = viewOf(bytes);
  bytes.set(encodeManifest(root.manifest), 0);
  bytes.set(ROOT_MAGIC, MANIFEST_BYTES);
  view.setUint32(520, REMOTE_VERSION, true);
  writeU64(view, 528, root.fenceChunk);
  writeU64(view, 536, root.timeMs);
  view.setUint32(ROOT_CRC_AT, checksum(bytes.subarray(0, ROOT_CRC_AT)), true);
  return bytes;
}

/** Decodes and checks a root. Errors: `corrupt`; `unsupported` for a later version. `name` is for the message. */
export function decodeRoot(bytes: Uint8Array, name: string): RemoteRoot {
  const view = checked(bytes, name, { length: ROOT_BYTES, magic: ROOT_MAGIC, magicAt: MANIFEST_BYTES, crcAt: ROOT_CRC_AT, what: 'root' });
  const manifest = decodeManifest(bytes.subarray(0, MANIFEST_BYTES), name);
  const root = { manifest, fenceChunk: readU64(view, 528), timeMs: readU64(view, 536) };
  if (root.fenceChunk < 0 || root.timeMs < 0) throw corrupt(name, 'a counter is 2^53 or more', 528);
  return root;
}

export interface HotList {
  readonly volumeId: Uint8Array;
  readonly timeMs: number;
  /** Numbers, the one that was used last first. */
  readonly chunks: readonly number[];
}

/** At most `HOT_CHUNKS_MAX` chunks of it are kept. */
export function encodeHotList({ volumeId, timeMs, chunks }: HotList): Uint8Array {
  const kept = chunks.slice(0, HOT_CHUNKS_MAX);
  const bytes = new Uint8Array(hotListBytes(kept.length));
  const view = viewOf(bytes);
  bytes.set(HOT_MAGIC, 0);
  view.setUint32(8, REMOTE_VERSION, true);
  view.setUint32(12, kept.length, true);
  bytes.set(volumeId, 16);
  writeU64(view, 32, timeMs);
  for (const [index, chunk] of kept.entries()) view.setUint32(HOT_CHUNKS_AT + 4 * index, chunk, true);
  view.setUint32(bytes.length - 4, checksum(bytes.subarray(0, -4)), true);
  return bytes;
}

function hotListBytes(chunkCount: number): number {
  return HOT_CHUNKS_AT + 4 * chunkCount + 4;
}

/** Decodes and checks a hot list. Errors: `corrupt`; `unsupported` for a later version. `name` is for the message. */
export function decodeHotList(bytes: Uint8Array, name: string): HotList {
  const chunkCount = bytes.length < hotListBytes(0) ? 0 : viewOf(bytes).getUint32(12, true);
  const length = hotListBytes(chunkCount);
  const view = checked(bytes, name, { length, magic: HOT_MAGIC, magicAt: 0, crcAt: length - 4, what: 'hot list' });
  const list = {
    volumeId: new Uint8Array(bytes.subarray(16, 16 + VOLUME_ID_BYTES)),
    timeMs: readU64(view, 32),
    chunks: Array.from({ length: chunkCount }, (_, index) => view.getUint32(HOT_CHUNKS_AT + 4 * index, true)),
  };
  if (chunkCount > HOT_CHUNKS_MAX) throw corrupt(name, `${chunkCount} chunks, more than ${HOT_CHUNKS_MAX}`, 12);
  if (list.timeMs < 0) throw corrupt(name, 'a counter is 2^53 or more', 32);
  return list;
}

interface Shape {
  readonly length: number;
  readonly magic: Buffer;
  readonly magicAt: number;
  readonly crcAt: number;
  readonly what: string;
}

function checked(bytes: Uint8Array, name: string, { length, magic, magicAt, crcAt, what }: Shape): DataView {
  if (bytes.length !== length) throw corrupt(name, `${bytes.length} bytes long, expected ${length}`, 0);
  if (magic.compare(bytes, magicAt, magicAt + 8) !== 0) throw corrupt(name, `not a basalt ${what} (wrong magic)`, magicAt);
  const view = viewOf(bytes);
  const stored = view.getUint32(crcAt, true);
  const computed = checksum(bytes.subarray(0, crcAt));
  if (stored !== computed) throw corrupt(name, `checksum ${formatChecksum(stored)}, expected ${formatChecksum(computed)}`, crcAt);
  const version = view.getUint32(magicAt + 8, true);
  if (version === REMOTE_VERSION) return view;
  throw new VolumeError('unsupported', `${name}: format version ${version}; this basalt reads version ${REMOTE_VERSION}: use a newer one`);
}

const pad = (value: number, digits: number): string => String(value).padStart(digits, '0');

export const EPOCH_FOLDER = 'epochs';
export const ROOT_FOLDER = 'roots';
export const HOT_KEY = 'hints/hot';

export function claimKey(epoch: number): string {
  return `${EPOCH_FOLDER}/e${pad(epoch, 6)}`;
}

/** Put by a writer that has shipped all and is gone: its lease is over. */
export function releaseKey(epoch: number): string {
  return `${EPOCH_FOLDER}/e${pad(epoch, 6)}-released`;
}

export function rootKey(epoch: number, checkpoint: number): string {
  return `${ROOT_FOLDER}/e${pad(epoch, 6)}-k${pad(checkpoint, 10)}`;
}

/** The epoch of a claim's key, or null if it is none. */
export function parseClaimKey(key: string): number | null {
  const match = /^epochs\/e(\d{6,})$/.exec(key);
  return match === null ? null : Number(match[1]);
}

/** Epoch and checkpoint of a root's key, or null if it is none. */
export function parseRootKey(key: string): { readonly epoch: number; readonly checkpoint: number } | null {
  const match = /^roots\/e(\d{6,})-k(\d{10,})$/.exec(key);
  return match === null ? null : { epoch: Number(match[1]), checkpoint: Number(match[2]) };
}
