/**
 * What happened in a world: a digest over the whole history (one seed, one digest), and the last events in words.
 * An event is a constant word, a subject (a path, a client) and up to three numbers, so that recording one costs no text.
 */
import { hashText } from './random.ts';

const KEPT_EVENTS = 4096;

interface TraceEvent {
  timeMs: number;
  what: string;
  subject: string;
  a: number;
  b: number;
  c: number;
}

export class Trace {
  readonly #ring: TraceEvent[] = [];
  readonly #hashes = new Map<string, number>();
  readonly #float = new Float64Array(1);
  readonly #halves = new Uint32Array(this.#float.buffer);
  readonly #listener: ((line: string) => void) | null;
  #low = 0x12345678;
  #high = 0x9abcdef0;
  #count = 0;
  #timeMs = 0;

  /** `listener` is told every event as a line of text: for a replay that shows everything. */
  constructor(listener: ((line: string) => void) | null = null) {
    this.#listener = listener;
  }

  get count(): number {
    return this.#count;
  }

  /** The virtual time that the next events carry. */
  setTime(timeMs: number): void {
    this.#timeMs = timeMs;
  }

  event(what: string, subject: string, a = 0, b = 0, c = 0): void {
    this.#mixNumber(this.#timeMs);
    this.#mix(this.#hashOf(what));
    this.#mix(this.#hashOf(subject));
    this.#mixNumber(a);
    this.#mixNumber(b);
    this.#mixNumber(c);
    const slot = this.#count % KEPT_EVENTS;
    this.#count += 1;
    const event = { timeMs: this.#timeMs, what, subject, a, b, c };
    this.#ring[slot] = event;
    if (this.#listener !== null) this.#listener(formatEvent(event));
  }

  /** Mixes bytes into the digest without an event: what is written belongs to the history, too. */
  bytes(bytes: Uint8Array): void {
    let word = bytes.length;
    for (let i = 0; i < bytes.length; i += 1) word = Math.imul(word ^ bytes[i], 0x01000193);
    this.#mix(word >>> 0);
  }

  digest(): string {
    return [this.#high, this.#low, this.#count].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  }

  /** The last `count` events, oldest first, one line each. */
  last(count: number): string[] {
    const lines: string[] = [];
    const first = Math.max(0, this.#count - Math.min(count, KEPT_EVENTS));
    for (let i = first; i < this.#count; i += 1) lines.push(formatEvent(this.#ring[i % KEPT_EVENTS]));
    return lines;
  }

  #hashOf(text: string): number {
    let hash = this.#hashes.get(text);
    if (hash === undefined) {
      hash = hashText(text);
      this.#hashes.set(text, hash);
    }
    return hash;
  }

  #mixNumber(value: number): void {
    this.#float[0] = value;
    this.#mix(this.#halves[0] ^ Math.imul(this.#halves[1], 0x85ebca6b));
  }

  #mix(word: number): void {
    this.#low = Math.imul(this.#low ^ word, 0x9e3779b1);
    this.#low ^= this.#low >>> 15;
    this.#high = Math.imul(this.#high ^ this.#low, 0xc2b2ae35) + word;
    this.#high ^= this.#high >>> 13;
  }
}

function formatEvent(event: TraceEvent): string {
  const numbers = [event.a, event.b, event.c];
  while (numbers.length > 0 && numbers[numbers.length - 1] === 0) numbers.pop();
  return `${event.timeMs.toFixed(3).padStart(12)} ${event.what.padEnd(16)} ${event.subject} ${numbers.join(' ')}`.trimEnd();
}
