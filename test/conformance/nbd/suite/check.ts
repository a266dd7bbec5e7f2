/** How a behaviour says what it found: a deviation, with what was expected and what came, or that there is nothing to check. */

/** The server does what the protocol does not allow. */
export class Deviation extends Error {
  readonly expected: string;
  readonly got: string;

  constructor(what: string, { expected, got }: { readonly expected: string; readonly got: string }) {
    super(`${what}: expected ${expected}, got ${got}`);
    this.name = 'Deviation';
    this.expected = expected;
    this.got = got;
  }
}

/** The server does not have what the behaviour is about. */
export class Skipped extends Error {}

export function skip(reason: string): never {
  throw new Skipped(reason);
}

export function must(condition: boolean, what: string, { expected, got }: { readonly expected: string; readonly got: string }): asserts condition {
  if (!condition) throw new Deviation(what, { expected, got });
}

export function expectOneOf(what: string, got: number, allowed: readonly number[], nameOf: (value: number) => string = String): void {
  must(allowed.includes(got), what, { expected: allowed.map(nameOf).join(' or '), got: nameOf(got) });
}

export function expectEqual(what: string, got: number | bigint | string | boolean | null, expected: number | bigint | string | boolean | null): void {
  must(got === expected, what, { expected: String(expected), got: String(got) });
}

const SHOWN_BYTES = 32;
const hex = (bytes: Uint8Array): string => `${Buffer.from(bytes.subarray(0, SHOWN_BYTES)).toString('hex')}${bytes.length > SHOWN_BYTES ? '…' : ''}`;

/** Byte for byte; says where the first difference is. */
export function expectBytes(what: string, got: Uint8Array, expected: Uint8Array): void {
  must(got.length === expected.length, what, { expected: `${expected.length} bytes`, got: `${got.length} bytes: ${hex(got)}` });
  if (Buffer.from(got.buffer, got.byteOffset, got.length).equals(expected)) return;
  const at = got.findIndex((byte, index) => byte !== expected[index]);
  throw new Deviation(`${what}, at byte ${at}`, { expected: hex(expected.subarray(at)), got: hex(got.subarray(at)) });
}

/** Bytes that tell where they belong: no two sectors, and no two seeds, are the same. */
export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length, (seed * 37 + 1) & 0xff);
  for (let at = 0; at + 8 <= length; at += 512) {
    bytes.writeUInt32BE(at, at);
    bytes.writeUInt32BE(seed, at + 4);
  }
  return bytes;
}
