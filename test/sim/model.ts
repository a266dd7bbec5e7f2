/**
 * What a volume should hold: for each block the history of its contents by LSN, built from what clients sent and from
 * the order in which the engine took it. Any prefix of that order can be asked for.
 */
import type { Durability } from '../../src/base/durability.ts';
import type { VolumeObserver } from '../../src/volume/volume-info.ts';
import { describePayload } from './payload.ts';

export type AcceptedRecord = Parameters<VolumeObserver['accepted']>[0];

/** The engine did what it must not, or did not what it must. */
export class SimulationFailure extends Error {
  override readonly name = 'SimulationFailure';
}

/** A change that a client asked for. */
export interface ChangeRequest {
  readonly id: number;
  readonly kind: 'write' | 'zero' | 'trim';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly fua: boolean;
  /** Null: zeroes. */
  readonly payload: Uint8Array | null;
  /** Ranges of blocks that its records covered so far. */
  readonly covered: BlockRange[];
  /** The volume's mode when it took the last part of it. */
  durability?: Durability;
  /** The newest LSN when the client asked. */
  readonly askedAtLsn: number;
  /** Highest LSN that its effect depends on; 0: none yet. */
  lsn: number;
}

/** States of the volume, by the last LSN of the records that make them. */
export interface StateRange {
  readonly first: number;
  readonly last: number;
}

interface BlockRange {
  readonly first: number;
  readonly end: number;
}

export interface Version {
  readonly lsn: number;
  readonly requestId: number;
  /** Null: zeroes. */
  readonly bytes: Uint8Array | null;
}

/** Every block before its first write. */
const EMPTY: Version = { lsn: 0, requestId: 0, bytes: null };

export interface ModelOptions {
  readonly blockCount: number;
  readonly blockSizeBytes: number;
}

export class Model {
  readonly blockCount: number;
  readonly blockSizeBytes: number;
  readonly #histories = new Map<number, Version[]>();
  /** Versions that a crash took, for the report of a failure. */
  readonly #lost = new Map<number, Version[]>();
  readonly #zeroes: Uint8Array;
  #lastLsn = 0;

  constructor(options: ModelOptions) {
    this.blockCount = options.blockCount;
    this.blockSizeBytes = options.blockSizeBytes;
    this.#zeroes = new Uint8Array(options.blockSizeBytes);
  }

  get lastLsn(): number {
    return this.#lastLsn;
  }

  /** The blocks that a request changes: all that it touches, or for a trim those that lie whole in it. */
  blocksOf(request: ChangeRequest): BlockRange {
    const size = this.blockSizeBytes;
    const endBytes = request.offsetBytes + request.lengthBytes;
    if (request.kind === 'trim') {
      const first = Math.ceil(request.offsetBytes / size);
      return { first, end: Math.max(first, Math.floor(endBytes / size)) };
    }
    const first = Math.floor(request.offsetBytes / size);
    return { first, end: Math.max(first, Math.ceil(endBytes / size)) };
  }

  /** Takes the next record of the order, which carries (a part of) `request`. */
  accept(record: AcceptedRecord, request: ChangeRequest): void {
    const { lsn, blockNumber, blockCount } = record;
    if (lsn !== this.#lastLsn + 1) throw new SimulationFailure(`record ${lsn} follows record ${this.#lastLsn}: LSNs have a gap`);
    const blocks = this.blocksOf(request);
    const end = blockNumber + blockCount;
    const isInside = blockCount > 0 && blockNumber >= blocks.first && end <= blocks.end;
    if (!isInside || request.covered.some((range) => blockNumber < range.end && end > range.first)) {
      throw new SimulationFailure(`record ${lsn} covers blocks ${blockNumber} to ${end - 1}, which is not (any more) due for request ${describeRequest(request)}`);
    }
    this.#lastLsn = lsn;
    request.covered.push({ first: blockNumber, end });
    request.lsn = lsn;
    if (request.payload === null) for (const block of this.#writtenIn(blockNumber, end)) this.#push(record, request, block);
    else for (let block = blockNumber; block < end; block += 1) this.#push(record, request, block);
  }

  /** Blocks of a range that were ever written. The others are zero, and stay it whatever zeroes them. */
  #writtenIn(first: number, end: number): number[] {
    const written: number[] = [];
    if (end - first > this.#histories.size) {
      for (const block of this.#histories.keys()) if (block >= first && block < end) written.push(block);
    } else {
      for (let block = first; block < end; block += 1) if (this.#histories.has(block)) written.push(block);
    }
    return written;
  }

  /** All blocks that were ever written. */
  touchedBlocks(): Iterable<number> {
    return this.#histories.keys();
  }

  /**
   * A request is answered: its records must cover all its blocks. An engine may skip a block that would stay zero, if it
   * was zero at some moment since the client asked; the request then depends on the record that had made it so.
   */
  complete(request: ChangeRequest): void {
    const blocks = this.blocksOf(request);
    const isCovered = (block: number): boolean => request.covered.some(({ first, end }) => block >= first && block < end);
    const mayBeSkipped = request.payload === null ? this.#writtenIn(blocks.first, blocks.end) : numbers(blocks);
    for (const block of mayBeSkipped) {
      if (isCovered(block)) continue;
      const zero = this.since(block, request.askedAtLsn).find((version) => version.bytes === null);
      if (zero === undefined || !this.#writesZeroes(request, block)) {
        throw new SimulationFailure(`request ${describeRequest(request)} is answered, but no record carried block ${block}`);
      }
      request.lsn = Math.max(request.lsn, zero.lsn);
    }
  }

  newest(block: number): Version {
    return this.#histories.get(block)?.at(-1) ?? EMPTY;
  }

  /** The content of a block in the state after the records up to `lsn`. */
  at(block: number, lsn: number): Version {
    return this.#histories.get(block)?.findLast((version) => version.lsn <= lsn) ?? EMPTY;
  }

  /** All contents that a block had from the state at `lsn` on. */
  since(block: number, lsn: number): Version[] {
    const younger = this.#histories.get(block)?.filter((version) => version.lsn > lsn) ?? [];
    return [this.at(block, lsn), ...younger];
  }

  /** The states of the volume in which a block holds `bytes`. */
  statesWith(block: number, bytes: Uint8Array): StateRange[] {
    const versions = this.since(block, 0);
    const ranges = versions.map((version, index) => ({ version, first: version.lsn, last: (versions.at(index + 1)?.lsn ?? Number.POSITIVE_INFINITY) - 1 }));
    return ranges.filter(({ version }) => this.#equals(version, bytes, 0)).map(({ first, last }) => ({ first, last }));
  }

  /** A crash took all records after `lsn`; their numbers will be used again. */
  forgetAfter(lsn: number): void {
    this.#lastLsn = Math.min(this.#lastLsn, lsn);
    for (const [block, history] of this.#histories) {
      while (history.length > 0 && history[history.length - 1].lsn > lsn) {
        const lost = history.pop();
        if (lost === undefined) break;
        const others = this.#lost.get(block);
        if (others === undefined) this.#lost.set(block, [lost]);
        else others.push(lost);
      }
    }
  }

  /** Checks bytes that were read at `offsetBytes`: each block must be in a state that it had from `lsn` on. */
  checkRead(found: Uint8Array, offsetBytes: number, lsn: number, what: string): void {
    this.#checkBlocks(found, offsetBytes, what, (block) => (this.newest(block).lsn <= lsn ? [this.newest(block)] : this.since(block, lsn)));
  }

  /** Checks bytes that were read at `offsetBytes` after a recovery: each block must be as in the state after `lsn`, exactly. */
  checkState(found: Uint8Array, offsetBytes: number, lsn: number, what: string): void {
    this.#checkBlocks(found, offsetBytes, what, (block) => [this.at(block, lsn)]);
  }

  #checkBlocks(found: Uint8Array, offsetBytes: number, what: string, allowedOf: (block: number) => Version[]): void {
    const size = this.blockSizeBytes;
    const endBytes = offsetBytes + found.length;
    for (let block = Math.floor(offsetBytes / size); block * size < endBytes; block += 1) {
      const start = Math.max(offsetBytes, block * size);
      const end = Math.min(endBytes, (block + 1) * size);
      const part = found.subarray(start - offsetBytes, end - offsetBytes);
      const allowed = allowedOf(block);
      if (!allowed.some((version) => this.#equals(version, part, start - block * size))) this.#report(part, start, allowed, what);
    }
  }

  #equals(version: Version, part: Uint8Array, startInBlock: number): boolean {
    const bytes = version.bytes ?? this.#zeroes;
    return Buffer.compare(bytes.subarray(startInBlock, startInBlock + part.length), part) === 0;
  }

  #report(part: Uint8Array, offsetBytes: number, allowed: readonly Version[], what: string): never {
    const block = Math.floor(offsetBytes / this.blockSizeBytes);
    const startInBlock = offsetBytes - block * this.blockSizeBytes;
    const known = [...(this.#histories.get(block) ?? []), EMPTY];
    const lost = this.#lost.get(block) ?? [];
    const same = known.find((version) => this.#equals(version, part, startInBlock));
    const sameLost = lost.find((version) => this.#equals(version, part, startInBlock));
    const found = same === undefined ? (sameLost === undefined ? describeSectors(part, offsetBytes) : `${describeVersion(sameLost)}, which a crash took`) : describeVersion(same);
    throw new SimulationFailure(
      [
        `${what}: block ${block} (bytes ${offsetBytes} to ${offsetBytes + part.length - 1}) is not what it should be`,
        `  expected: ${allowed.map(describeVersion).join(', or ')}`,
        `  found:    ${found}`,
        `  history:  ${known.toReversed().slice(-8).map(describeVersion).join('; ')}; taken by crashes: ${lost.slice(-4).map(describeVersion).join('; ') || 'none'}`,
      ].join('\n'),
    );
  }

  #push(record: AcceptedRecord, request: ChangeRequest, block: number): void {
    const bytes = this.#outcome(request, block);
    const isZero = this.#isZero(bytes);
    if (record.kind === 'zero' && !isZero) throw new SimulationFailure(`record ${record.lsn} zeroes block ${block}, but request ${describeRequest(request)} does not`);
    const history = this.#histories.get(block);
    if (isZero && (history?.at(-1) ?? EMPTY).bytes === null) return; // zero it was, zero it is: every prefix agrees
    const version = { lsn: record.lsn, requestId: request.id, bytes: isZero ? null : bytes };
    if (history === undefined) this.#histories.set(block, [version]);
    else history.push(version);
  }

  /** The content of a block when `request` is applied to its newest version. */
  #outcome(request: ChangeRequest, block: number): Uint8Array | null {
    const size = this.blockSizeBytes;
    if (request.kind === 'trim') return null;
    const start = Math.max(request.offsetBytes, block * size);
    const end = Math.min(request.offsetBytes + request.lengthBytes, (block + 1) * size);
    const part = request.payload === null ? null : request.payload.subarray(start - request.offsetBytes, end - request.offsetBytes);
    if (end - start === size) return part;
    const merged = (this.newest(block).bytes ?? this.#zeroes).slice();
    if (part === null) merged.fill(0, start - block * size, end - block * size);
    else merged.set(part, start - block * size);
    return merged;
  }

  #writesZeroes(request: ChangeRequest, block: number): boolean {
    if (request.payload === null) return true;
    const size = this.blockSizeBytes;
    const start = Math.max(0, block * size - request.offsetBytes);
    return request.payload.subarray(start, (block + 1) * size - request.offsetBytes).every((byte) => byte === 0);
  }

  #isZero(bytes: Uint8Array | null): boolean {
    return bytes === null || (bytes[0] === 0 && Buffer.compare(bytes, this.#zeroes) === 0);
  }
}

function* numbers(range: BlockRange): Generator<number> {
  for (let block = range.first; block < range.end; block += 1) yield block;
}

export function describeRequest(request: ChangeRequest): string {
  const { id, kind, offsetBytes, lengthBytes } = request;
  return `${id} (${kind}${request.fua ? ' fua' : ''} of bytes ${offsetBytes} to ${offsetBytes + lengthBytes - 1})`;
}

function describeVersion(version: Version): string {
  if (version.lsn === 0) return 'never written';
  return `LSN ${version.lsn} of request ${version.requestId}${version.bytes === null ? ' (zeroes)' : ''}`;
}

/** Runs of sectors with the same origin. */
function describeSectors(bytes: Uint8Array, offsetBytes: number): string {
  const runs: string[] = [];
  let previous = '';
  for (let at = 0; at < bytes.length; at += 512) {
    const text = describePayload(bytes.subarray(at, at + 512), offsetBytes + at);
    if (text !== previous) runs.push(`from byte ${offsetBytes + at}: ${text}`);
    previous = text;
  }
  return runs.slice(0, 6).join('; ');
}
