/**
 * What a volume may hold: the bytes of every acknowledged request, and the requests that are not answered yet. After a
 * crash each block must equal the acknowledged bytes with some of the unanswered requests applied, each of them whole
 * within the block: nothing older, nothing torn, nothing else. In mode async the youngest acknowledged requests may be
 * missing too, but none that was answered before another one was sent which is there.
 */
import { fillStamp } from './stamp.ts';
import { possibleOutcomes } from './young-requests.ts';

export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** A request that changes the volume. `stamp`: it writes its stamp; `zero`: its range reads as zeroes afterwards. */
export interface Mutation extends ByteRange {
  readonly request: number;
  readonly connection: number;
  readonly kind: 'stamp' | 'zero' | 'trim';
}

interface Recorded {
  readonly mutation: Mutation;
  state: 'in flight' | 'acknowledged' | 'refused' | 'undecided';
}

export interface Problem {
  readonly blockNumber: number;
  readonly text: string;
}

interface YoungRequest {
  readonly mutation: Mutation;
  /** Places in the order of all sendings and answers. */
  readonly sent: number;
  readonly answered: number;
  readonly answeredMs: number;
}

/** Past requests that are kept to explain a wrong byte. */
const HISTORY_LIMIT = 200_000;

export class VolumeImage {
  readonly sizeBytes: number;
  readonly blockSizeBytes: number;
  readonly #bytes: Uint8Array;
  readonly #inFlight = new Set<Mutation>();
  /** Answered with an error: each block may have them or not, until an acknowledged request covers them. */
  readonly #refused = new Set<Mutation>();
  readonly #reading = new Set<ByteRange>();
  #history: Recorded[] = [];
  readonly #forgetful: { readonly nowMs: () => number } | null;
  /** Forgetful: what is there even without the young requests. */
  readonly #settled: Uint8Array;
  /** Forgetful: acknowledged, not settled; oldest answer first. */
  #young: YoungRequest[] = [];
  readonly #sent = new Map<Mutation, number>();
  #crashed = false;
  #order = 0;

  /** An image of a new volume: all zeroes. `forgetful`, with a clock: a crash may take acknowledged requests, until `settleOlder` names them. */
  constructor(options: { readonly sizeBytes: number; readonly blockSizeBytes: number; readonly forgetful?: { readonly nowMs: () => number } }) {
    this.sizeBytes = options.sizeBytes;
    this.blockSizeBytes = options.blockSizeBytes;
    this.#bytes = new Uint8Array(options.sizeBytes);
    this.#forgetful = options.forgetful ?? null;
    this.#settled = new Uint8Array(this.#forgetful === null ? 0 : options.sizeBytes);
  }

  /**
   * Notes a request that is about to be sent. False, and nothing noted, while another one overlaps it: the order of
   * overlapping requests is free, and the check after the crash could then not tell a lost one.
   */
  begin(mutation: Mutation): boolean {
    if (overlapsAny(this.#inFlight, mutation) || overlapsAny(this.#reading, mutation)) return false;
    this.#inFlight.add(mutation);
    this.#sent.set(mutation, (this.#order += 1));
    if (this.#history.length >= HISTORY_LIMIT) this.#history = this.#history.slice(HISTORY_LIMIT / 2);
    this.#history.push({ mutation, state: 'in flight' });
    return true;
  }

  /** The request was answered without an error: from now on the volume holds it. */
  acknowledge(mutation: Mutation): void {
    this.#inFlight.delete(mutation);
    const sent = this.#sent.get(mutation) ?? 0;
    this.#sent.delete(mutation);
    if (this.#forgetful !== null) this.#young.push({ mutation, sent, answered: (this.#order += 1), answeredMs: this.#forgetful.nowMs() });
    this.#note(mutation, 'acknowledged');
    for (const refused of this.#refused) this.#cover(refused, mutation);
    this.#applyTo(this.#bytes, mutation);
  }

  /** The request was answered with an error. It may be sent again, with `begin`. */
  refuse(mutation: Mutation): void {
    this.#inFlight.delete(mutation);
    this.#sent.delete(mutation);
    this.#note(mutation, 'refused');
    this.#refused.add(mutation);
  }

  /** Forgetful: what was answered before `timeMs` is there after any crash. */
  settleOlder(timeMs: number): void {
    const kept = this.#young.findIndex(({ answeredMs }) => answeredMs >= timeMs);
    const old = this.#young.splice(0, kept < 0 ? this.#young.length : kept);
    for (const { mutation } of old) this.#applyTo(this.#settled, mutation);
  }

  /** Forgetful: the server is gone; from now on, until `settle`, young requests may be missing. */
  crashed(): void {
    this.#crashed = true;
    if (this.#forgetful !== null) this.#bytes.set(this.#settled);
  }

  #applyTo(bytes: Uint8Array, mutation: Mutation): void {
    const { offsetBytes, lengthBytes } = effectOf(mutation, this.blockSizeBytes);
    applyMutation(bytes.subarray(offsetBytes, offsetBytes + lengthBytes), offsetBytes, mutation);
  }

  #cover(refused: Mutation, mutation: Mutation): void {
    if (!overlaps(refused, mutation)) return;
    const covers = mutation.offsetBytes <= refused.offsetBytes && mutation.offsetBytes + mutation.lengthBytes >= refused.offsetBytes + refused.lengthBytes;
    if (!covers || mutation.kind === 'trim') throw new Error('a refused request must be covered whole: what may lie under a part of it is not kept');
    this.#refused.delete(refused);
  }

  /** Like `begin`, for a request that only reads. */
  beginRead(range: ByteRange): boolean {
    if (overlapsAny(this.#inFlight, range)) return false;
    this.#reading.add(range);
    return true;
  }

  endRead(range: ByteRange): void {
    this.#reading.delete(range);
  }

  /** Checks bytes read at `offsetBytes` (any alignment), and takes them as the truth where they may be. */
  verify(offsetBytes: number, actual: Uint8Array): Problem[] {
    const problems: Problem[] = [];
    const end = offsetBytes + actual.length;
    for (let start = offsetBytes; start < end; ) {
      const blockNumber = Math.floor(start / this.blockSizeBytes);
      const stop = Math.min((blockNumber + 1) * this.blockSizeBytes, end);
      const text = this.#verifyPart(start, actual.subarray(start - offsetBytes, stop - offsetBytes));
      if (text !== null) problems.push({ blockNumber, text });
      start = stop;
    }
    return problems;
  }

  /**
   * Nothing is in flight any more, and all that the unanswered requests covered was verified: what was found counts
   * from now on, and a later change of it is an error.
   */
  settle(): void {
    for (const mutation of this.#inFlight) this.#note(mutation, 'undecided');
    this.#inFlight.clear();
    this.#sent.clear();
    this.#reading.clear();
    this.#young = [];
    this.#crashed = false;
    if (this.#forgetful !== null) this.#settled.set(this.#bytes);
  }

  /** Checks a part of one block. */
  #verifyPart(start: number, actual: Uint8Array): string | null {
    const expected = this.#bytes.subarray(start, start + actual.length);
    if (equal(expected, actual)) return null;
    const part = { offsetBytes: start, lengthBytes: actual.length };
    if (this.#forgetful !== null && this.#crashed) return this.#verifyForgetful(part, actual);
    const touching = [...this.#refused, ...this.#inFlight].filter((mutation) => overlaps(effectOf(mutation, this.blockSizeBytes), part));
    if (touching.length > 12) throw new Error(`${touching.length} requests in flight in one block: too many to try all outcomes`);
    const candidate = new Uint8Array(actual.length);
    for (let subset = 1; subset < 2 ** touching.length; subset += 1) {
      candidate.set(expected);
      // Those in flight do not overlap each other (begin), so that their order does not matter.
      for (const [index, mutation] of touching.entries()) if ((subset >> index) & 1) this.#overlay(candidate, start, mutation);
      if (equal(candidate, actual)) {
        // What is there after a crash must stay; what an error has left may still go either way at the next crash.
        if (!touching.some((mutation) => this.#refused.has(mutation))) expected.set(actual);
        return null;
      }
    }
    return this.#explain(start, actual, touching);
  }

  #verifyForgetful(part: ByteRange, actual: Uint8Array): string | null {
    const start = part.offsetBytes;
    const touches = (mutation: Mutation): boolean => overlaps(effectOf(mutation, this.blockSizeBytes), part);
    const unanswered = [...this.#inFlight].map((mutation) => ({ mutation, sent: this.#sent.get(mutation) ?? 0, answered: Infinity }));
    const outcomes = possibleOutcomes([...this.#young, ...unanswered].filter(({ mutation }) => touches(mutation)));
    const expected = this.#bytes.subarray(start, start + actual.length);
    const sure = expected.slice();
    const candidate = new Uint8Array(actual.length);
    for (const { surely, perhaps } of outcomes) {
      for (const mutation of surely) this.#overlay(sure, start, mutation);
      candidate.set(sure);
      for (const mutation of perhaps) this.#overlay(candidate, start, mutation);
      if (!equal(candidate, actual)) continue;
      expected.set(actual);
      return null;
    }
    return this.#explain(start, actual, [...this.#inFlight].filter(touches));
  }

  /** Applies the part of `mutation` that lies within `target`, which begins at `start`. */
  #overlay(target: Uint8Array, start: number, mutation: Mutation): void {
    const { offsetBytes, lengthBytes } = effectOf(mutation, this.blockSizeBytes);
    const from = Math.max(offsetBytes, start);
    const to = Math.min(offsetBytes + lengthBytes, start + target.length);
    if (from < to) applyMutation(target.subarray(from - start, to - start), from, mutation);
  }

  #note(mutation: Mutation, state: Recorded['state']): void {
    const recorded = this.#history.findLast((entry) => entry.mutation === mutation);
    if (recorded !== undefined) recorded.state = state;
  }

  #explain(start: number, actual: Uint8Array, touching: readonly Mutation[]): string {
    const expected = this.#bytes.subarray(start, start + actual.length);
    const wrong = actual.findIndex((byte, index) => byte !== expected[index]);
    const position = start + wrong;
    const writers = this.#history.filter(({ mutation }) => overlaps(effectOf(mutation, this.blockSizeBytes), { offsetBytes: position, lengthBytes: 1 }));
    const matching = writers.findLast(({ mutation }) => this.#matches(mutation, position, start, actual));
    const last = writers.findLast(({ state }) => state !== 'in flight');
    const wrongBytes = actual.reduce((sum, byte, index) => sum + (byte === expected[index] ? 0 : 1), 0);
    return [
      `block ${Math.floor(start / this.blockSizeBytes)}: ${wrongBytes} bytes differ, the first at byte ${position}:`,
      `found ${matching === undefined ? (actual[wrong] === 0 ? 'zeroes' : 'bytes that no known request wrote') : describe(matching)},`,
      `expected ${last === undefined ? 'what it held before (no request known)' : describe(last)};`,
      `undecided in this block: ${touching.map((mutation) => describe({ mutation, state: this.#refused.has(mutation) ? 'refused' : 'in flight' })).join('; ') || 'none'}`,
    ].join(' ');
  }

  /** Whether the bytes around `position` (up to 16 behind it) are those that `mutation` wrote there. */
  #matches(mutation: Mutation, position: number, start: number, actual: Uint8Array): boolean {
    const effect = effectOf(mutation, this.blockSizeBytes);
    const length = Math.min(64, effect.offsetBytes + effect.lengthBytes - position, start + actual.length - position);
    const bytes = new Uint8Array(length);
    applyMutation(bytes, position, mutation);
    return equal(bytes, actual.subarray(position - start, position - start + length));
  }
}

/** What a request changes: a trim leaves the blocks alone that it covers in part. */
export function effectOf(mutation: Mutation, blockSizeBytes: number): ByteRange {
  if (mutation.kind !== 'trim') return mutation;
  const start = Math.ceil(mutation.offsetBytes / blockSizeBytes) * blockSizeBytes;
  const end = Math.floor((mutation.offsetBytes + mutation.lengthBytes) / blockSizeBytes) * blockSizeBytes;
  return { offsetBytes: start, lengthBytes: Math.max(0, end - start) };
}

export function applyMutation(target: Uint8Array, offsetBytes: number, mutation: Mutation): void {
  if (mutation.kind === 'stamp') fillStamp(target, offsetBytes, mutation);
  else target.fill(0);
}

function overlapsAny(ranges: Iterable<ByteRange>, range: ByteRange): boolean {
  for (const other of ranges) if (overlaps(other, range)) return true;
  return false;
}

function overlaps(left: ByteRange, right: ByteRange): boolean {
  return left.offsetBytes < right.offsetBytes + right.lengthBytes && right.offsetBytes < left.offsetBytes + left.lengthBytes;
}

function equal(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

function describe({ mutation, state }: Recorded): string {
  const what = mutation.kind === 'stamp' ? 'write' : mutation.kind;
  return `${what} ${mutation.request} of connection ${mutation.connection} (${state}, ${mutation.lengthBytes} bytes at ${mutation.offsetBytes})`;
}
