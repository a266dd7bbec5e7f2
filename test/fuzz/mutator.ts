/** Changes inputs: bytes, fields of messages, whole messages, and marks; by a random sequence that its seed decides. */
import { EVENT_BYTES, EVENT_MARK, EVENTS, INPUT_HEADER_BYTES } from './input-format.ts';

const INTERESTING_BYTES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 127, 128, 255] as const;
const INTERESTING_LENGTHS = [0, 1, 2, 7, 8, 12, 16, 28, 32, 100, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 16_384, 32_767, 32_768, 65_536, 100_000, 131_072, 524_287, 532_480, 700_000, 1_048_575, 1_048_576, 1_048_577, 67_108_864, 67_108_865, 0x7fffffff, 0x80000000, 0xffffffff] as const;
const LARGE_LENGTH = 32_768;
const INTERESTING_OFFSETS = [0, 1, 511, 4095, 4096, 8192, 12_288, 16_384, 65_536, 524_288, 1_044_480, 1_048_575, 1_048_576, 0xffffffff] as const;
const HIGH_HALVES = [0, 0, 0, 0, 0, 1, 0x1f_ffff, 0x20_0000, 0x7fff_ffff, 0xffff_ffff] as const;
const REQUEST_MAGICS = [0x2560_9513, 0x21e4_1c71] as const;
const IHAVEOPT = [0x49, 0x48, 0x41, 0x56, 0x45, 0x4f, 0x50, 0x54] as const;
/** Short inputs run more often: most mistakes need no more than a few messages. */
const INPUT_BYTES_MAX = 1800;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Where messages and marks begin. */
function boundaries(bytes: Uint8Array): number[] {
  const found: number[] = [];
  for (let at = INPUT_HEADER_BYTES; at + 4 <= bytes.length; at += 1) {
    const [a, b, c, d] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    const isRequest = (a === 0x25 && b === 0x60 && c === 0x95 && d === 0x13) || (a === 0x21 && b === 0xe4 && c === 0x1c && d === 0x71);
    if (isRequest || (a === 0x49 && b === 0x48 && c === 0x41 && d === 0x56) || (a === EVENT_MARK[0] && b === EVENT_MARK[1])) found.push(at);
  }
  return found;
}

export class Mutator {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e37_79b1) ^ 0x5bd1_e995) | 1;
  }

  /** A length; seldom one of those that take long. */
  #length(): number {
    const length = this.pick(INTERESTING_LENGTHS);
    return length >= LARGE_LENGTH && length <= 1 << 20 && this.below(8) !== 0 ? length & 0x3fff : length;
  }

  /** A whole number below `limit`. */
  below(limit: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return (state >>> 0) % limit;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }

  /** A changed copy of `input`; `other` is where parts are taken from. */
  mutate(input: Uint8Array, other: Uint8Array): Uint8Array {
    let bytes: Uint8Array = Buffer.from(input);
    for (let count = 1 + this.below(4); count > 0; count -= 1) bytes = this.#change(bytes, other);
    return bytes.length > INPUT_BYTES_MAX ? bytes.subarray(0, INPUT_BYTES_MAX) : bytes;
  }

  #change(bytes: Uint8Array, other: Uint8Array): Uint8Array {
    if (bytes.length < INPUT_HEADER_BYTES + 4) return Buffer.from(other);
    switch (this.below(14)) {
      case 0:
        bytes[this.below(bytes.length)] ^= 1 << this.below(8);
        return bytes;
      case 1:
        bytes[this.below(bytes.length)] = this.pick(INTERESTING_BYTES);
        return bytes;
      case 2:
        bytes[this.below(bytes.length)] += this.below(9) - 4;
        return bytes;
      case 3:
        viewOf(bytes).setUint32(this.below(bytes.length - 3), this.#length());
        return bytes;
      case 4:
        bytes[this.below(INPUT_HEADER_BYTES)] = this.below(256);
        return bytes;
      case 5:
        return this.#insert(bytes, this.#mark());
      case 6:
        return this.#insert(bytes, this.#newRequest());
      case 7:
        return this.#insert(bytes, this.#newOption());
      case 8:
        return this.#removeMessage(bytes);
      case 9:
        return this.#insert(bytes, this.#part(bytes));
      case 10:
        return this.#insert(bytes, this.#part(other));
      case 11:
        return this.#splice(bytes, other);
      case 12:
        return bytes.subarray(0, INPUT_HEADER_BYTES + this.below(bytes.length - INPUT_HEADER_BYTES));
      default:
        return this.#changeField(bytes);
    }
  }

  /** Puts `part` at the beginning of a message, mostly. */
  #insert(bytes: Uint8Array, part: Uint8Array): Uint8Array {
    const places = boundaries(bytes);
    const at = this.below(8) === 0 ? INPUT_HEADER_BYTES + this.below(bytes.length - INPUT_HEADER_BYTES) : (places.at(this.below(places.length + 1)) ?? bytes.length);
    const target = Buffer.allocUnsafe(bytes.length + part.length);
    target.set(bytes.subarray(0, at));
    target.set(part, at);
    target.set(bytes.subarray(at), at + part.length);
    return target;
  }

  /** A few messages in a row. */
  #part(bytes: Uint8Array): Uint8Array {
    const places = [...boundaries(bytes), bytes.length];
    const first = this.below(places.length);
    const last = Math.min(places.length - 1, first + 1 + this.below(3));
    return bytes.subarray(places[first], places[last]);
  }

  #removeMessage(bytes: Uint8Array): Uint8Array {
    const places = [...boundaries(bytes), bytes.length];
    const index = this.below(places.length);
    const [from, to] = [places[index], places[index + 1] ?? bytes.length];
    const target = Buffer.allocUnsafe(bytes.length - (to - from));
    target.set(bytes.subarray(0, from));
    target.set(bytes.subarray(to), from);
    return target;
  }

  /** The beginning of one and the end of the other. */
  #splice(bytes: Uint8Array, other: Uint8Array): Uint8Array {
    const here = boundaries(bytes);
    const there = boundaries(other);
    if (here.length === 0 || there.length === 0) return bytes;
    const head = bytes.subarray(0, this.pick(here));
    const tail = other.subarray(this.pick(there));
    const target = Buffer.allocUnsafe(head.length + tail.length);
    target.set(head);
    target.set(tail, head.length);
    return target;
  }

  #mark(): Uint8Array {
    const mark = Buffer.alloc(EVENT_BYTES);
    mark.set(EVENT_MARK);
    mark[4] = this.below(EVENTS.length);
    viewOf(mark).setUint16(5, this.below(32) === 0 ? this.pick([1600, 8192, 9000, 16_384]) : this.pick([1, 2, 16, 64, 100]));
    return mark;
  }

  #newRequest(): Uint8Array {
    const magic = this.pick(REQUEST_MAGICS);
    const isExtended = magic === 0x21e4_1c71;
    const command = this.pick([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7, 8]);
    const withPayload = command === 1 || this.below(8) === 0;
    const payloadBytes = withPayload ? this.below(40) : 0;
    const bytes = Buffer.alloc((isExtended ? 32 : 28) + payloadBytes);
    const view = viewOf(bytes);
    view.setUint32(0, magic);
    view.setUint16(4, this.below(3) === 0 ? 1 << this.below(6) : isExtended && withPayload ? 32 : 0);
    view.setUint16(6, command);
    view.setUint32(20, this.pick(INTERESTING_OFFSETS));
    const length = withPayload ? payloadBytes : this.#length();
    view.setUint32(isExtended ? 28 : 24, length);
    return bytes;
  }

  #newOption(): Uint8Array {
    const dataBytes = this.below(4) === 0 ? this.below(24) : 0;
    const bytes = Buffer.alloc(16 + dataBytes);
    bytes.set(IHAVEOPT);
    viewOf(bytes).setUint32(8, 1 + this.below(12));
    viewOf(bytes).setUint32(12, dataBytes);
    return bytes;
  }

  /** Changes one field of a message where it is known to be. */
  #changeField(bytes: Uint8Array): Uint8Array {
    const at = this.pick(boundaries(bytes));
    if (at === undefined || at + 32 > bytes.length) return bytes;
    const view = viewOf(bytes);
    if (bytes[at] === 0x49) {
      if (this.below(2) === 0) view.setUint32(at + 8, this.below(13));
      else view.setUint32(at + 12, this.below(3) === 0 ? this.#length() : view.getUint32(at + 12) + this.below(9) - 4);
    } else if (bytes[at] === EVENT_MARK[0]) {
      bytes[at + 4] = this.below(EVENTS.length);
    } else {
      const isExtended = bytes[at] === 0x21;
      const field = this.below(5);
      if (field === 0) view.setUint16(at + 4, this.below(64));
      else if (field === 1) view.setUint16(at + 6, this.below(9));
      else if (field === 2) view.setUint32(at + 16, this.pick(HIGH_HALVES));
      else if (field === 3) view.setUint32(at + 20, this.pick(INTERESTING_OFFSETS));
      else view.setUint32(at + (isExtended ? (this.below(4) === 0 ? 24 : 28) : 24), this.#length());
    }
    return bytes;
  }
}
