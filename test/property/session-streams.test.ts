/** Properties of the session and of the decoders, for any bytes at all; each run is judged as a fuzzer's input is (`test/fuzz`). */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeMetaContextRequest, decodeStatusPayload } from '../../src/protocol/meta-context.ts';
import { decodeInfoRequest, decodeText } from '../../src/protocol/negotiation.ts';
import { errorOf } from '../fuzz/campaign.ts';
import { EVENT_BYTES, INPUT_HEADER_BYTES, isMark } from '../fuzz/input-format.ts';
import { runInput } from '../fuzz/run-input.ts';
import { seeds } from '../fuzz/seeds.ts';

/** Seeds whose replies are the same, however the stream is cut: nothing happens in between, nothing waits, no byte behind STARTTLS. */
const STEADY = Object.entries(seeds())
  .filter(([name, input]) => input[2] === 0 && !/start-tls|selective|forced/.test(name) && !Array.from(input, (_, at) => isMark(input, at) && input[at + EVENT_BYTES - 3] !== 14).includes(true))
  .map(([, input]) => input);
const ALL = Object.values(seeds());

/** All messages that the client gets, in an order of their own: those of requests in flight together may come in any. */
async function repliesTo(input: Uint8Array): Promise<string> {
  const messages: string[] = [];
  const { end } = await runInput(input, (message) => void messages.push(Buffer.from(message).toString('latin1')));
  const all = createHash('sha1').update(messages.sort().join('\n')).digest('hex');
  return `${end}, ${messages.length} messages: ${all}`;
}

const SPLIT_AT = 3;

function withSplit(input: Uint8Array, split: number): Buffer {
  const copy = Buffer.from(input);
  copy[SPLIT_AT] = split;
  return copy;
}

describe('a valid stream', () => {
  test('gets the same replies however it is cut into reads', async () => {
    expect(STEADY.length).toBeGreaterThan(20);
    for (const input of STEADY) {
      const whole = await repliesTo(withSplit(input, 0));
      expect(await repliesTo(withSplit(input, 1))).toBe(whole);
      await fc.assert(fc.asyncProperty(fc.integer({ min: 2, max: 255 }), async (split) => (await repliesTo(withSplit(input, split))) === whole), { numRuns: 8 });
    }
  }, 60_000);
});

const garbage = fc.oneof(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ minLength: 200, maxLength: 3000 }), fc.array(fc.constantFrom(0, 1, 0x25, 0x60, 0x95, 0x13, 0x49, 0x48, 0xff), { maxLength: 400 }).map((bytes) => Uint8Array.from(bytes)));

describe('any bytes', () => {
  test('end a session in a defined way', async () => {
    await fc.assert(
      fc.asyncProperty(garbage, async (bytes) => {
        expect(await errorOf(bytes)).toBeNull();
      }),
      { numRuns: 300 },
    );
  });

  test('behind, before or within a valid stream do the same', async () => {
    const cases = fc.record({ input: fc.constantFrom(...ALL), bytes: garbage, at: fc.double({ min: 0, max: 1, noNaN: true }), split: fc.nat(255), replaces: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(cases, async ({ input, bytes, at, split, replaces }) => {
        const from = INPUT_HEADER_BYTES + Math.floor(at * (input.length - INPUT_HEADER_BYTES));
        const mixed = Buffer.concat([input.subarray(0, from), bytes, input.subarray(replaces ? Math.min(input.length, from + bytes.length) : from)]);
        expect(await errorOf(withSplit(mixed, split))).toBeNull();
      }),
      { numRuns: 600 },
    );
  }, 60_000);

  test('are decoded or refused, never thrown at', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), (bytes, at) => {
        const info = decodeInfoRequest(bytes);
        const contexts = decodeMetaContextRequest(bytes);
        const text = decodeText(bytes, 'text');
        const from = Math.min(at, bytes.length);
        const status = decodeStatusPayload(bytes, from, bytes.length - from);
        // What is decoded accounts for every byte.
        expect('invalid' in info || 6 + Buffer.byteLength(info.name) + 2 * info.infos.length === bytes.length).toBe(true);
        expect('invalid' in contexts || 8 + Buffer.byteLength(contexts.name) + contexts.queries.reduce((sum, query) => sum + 4 + Buffer.byteLength(query), 0) === bytes.length).toBe(true);
        expect('invalid' in text || Buffer.from(text.text).equals(bytes)).toBe(true);
        expect(status === null || 8 + 4 * status.contextIds.length === bytes.length - from).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
