/** How requests come out of the bytes, however these arrive; and what memory they take on the way. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../src/protocol/constants.ts';
import { bufferClassBytes, BufferPool, PIECE_BYTES } from '../../src/session/buffer-pool.ts';
import type { SessionResources } from '../../src/session/host.ts';
import { PayloadBudget } from '../../src/session/payload-budget.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { SessionDriver, settled, testResources, type TestRequest } from '../support/session-driver.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

const pattern = (length: number, seed: number): Buffer => {
  const bytes = Buffer.alloc(length, seed & 0xff);
  for (let at = 0; at + 4 <= length; at += 64) bytes.writeUInt32BE(at + seed, at);
  return bytes;
};

async function open(device: MemoryDevice, settings = {}): Promise<{ driver: SessionDriver; resources: SessionResources }> {
  const resources = testResources(new MemoryDirectory(device), settings);
  const driver = new SessionDriver(resources);
  await driver.go(device.name);
  return { driver, resources };
}

/** Carries requests out on plain memory, one after another. */
function applyTo(memory: Uint8Array, { command, offset = 0, length = 0, payload }: TestRequest): Buffer {
  const at = Number(offset);
  if (command === NBD_CMD_WRITE && payload !== undefined) memory.set(payload, at);
  if (command === NBD_CMD_WRITE_ZEROES) memory.fill(0, at, at + Number(length));
  return command === NBD_CMD_READ ? Buffer.from(memory.subarray(at, at + Number(length))) : Buffer.alloc(0);
}

const SIZE = 2 * MIB;
const requestArbitrary: fc.Arbitrary<TestRequest> = fc
  .record({
    command: fc.constantFrom(NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLUSH),
    length: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constantFrom(4096, 65_536, 262_144), fc.integer({ min: 9000, max: 900_000 })),
    offset: fc.nat(SIZE),
    seed: fc.nat(250),
  })
  .map(({ command, length, offset, seed }) => {
    const at = Math.min(offset, SIZE - length);
    return command === NBD_CMD_WRITE ? { command, offset: at, payload: pattern(length, seed) } : { command, offset: at, length };
  });

describe('requests in any split', () => {
  test('are carried out once each, in order, and leave no memory behind', async () => {
    const splits = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 70_000 }), fc.integer({ min: 70_000, max: 600_000 })), {
      minLength: 1,
      maxLength: 30,
    });
    const options = fc.record({ waits: fc.boolean(), maxRequestsInFlight: fc.constantFrom(1, 3, 64), maxReplyBytes: fc.constantFrom(1, 100_000, 4 * MIB) });
    await fc.assert(
      fc.asyncProperty(fc.array(requestArbitrary, { minLength: 1, maxLength: 12 }), splits, options, async (requests, cuts, { waits, ...settings }) => {
        const device = new MemoryDevice({ sizeBytes: SIZE });
        device.partialBlocks = waits;
        device.cold = waits;
        // Overlapping requests in flight may land in any order: where they wait, one at a time shows what each did.
        const { driver, resources } = await open(device, waits ? { ...settings, maxRequestsInFlight: 1 } : settings);
        const model = new Uint8Array(SIZE);
        const expected = requests.map((request) => applyTo(model, request));
        const input = Buffer.concat(requests.map((request) => driver.encode(request)));
        let at = 0;
        for (let turn = 0; at < input.length; turn += 1) {
          const byteCount = cuts[turn % cuts.length];
          driver.feed(input.subarray(at, at + byteCount));
          at += byteCount;
          if (turn % 3 === 0) await settled();
        }
        for (let turn = 0; driver.session.counters.requestCount < requests.length && turn < 100; turn += 1) await settled();
        await settled();
        const replies = driver.takeReplies();
        expect(replies.map(({ error }) => error)).toEqual(requests.map(() => 0));
        for (const { cookie, data } of replies) {
          expect(data.equals(expected[Buffer.from(cookie, 'hex').readUInt32BE(2) - 1])).toBe(true);
        }
        expect(Buffer.compare(device.data, model)).toBe(0);
        expect(driver.unreadBytes).toBe(0);
        expect(driver.session.awaitsRest).toBe(false);
        expect(resources.pool.leasedBytes).toBe(0);
        expect(resources.budget.usedBytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  test('byte by byte are the same as whole', async () => {
    const { driver } = await open(new MemoryDevice());
    driver.readBytesMax = 1;
    const payload = pattern(3000, 9);
    const replies = await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 100, payload },
      { command: NBD_CMD_TRIM, offset: 8192, length: 4096 },
      { command: NBD_CMD_READ, offset: 100, length: 3000 },
    );
    expect(replies.map(({ error }) => error)).toEqual([0, 0, 0]);
    expect(replies[2].data.equals(payload)).toBe(true);
  });

  test('a stream of large writes copies nothing but the header behind each payload', async () => {
    const { driver, resources } = await open(new MemoryDevice({ sizeBytes: 8 * MIB }));
    driver.readBytesMax = 200 * KIB;
    const writes = [0, 1, 2, 3, 4, 5].map((index) => driver.encode({ command: NBD_CMD_WRITE, offset: index * MIB, payload: pattern(MIB, index) }));
    const taken: number[] = [];
    const take = resources.pool.take.bind(resources.pool);
    resources.pool.take = (bytes) => {
      taken.push(bytes);
      return take(bytes);
    };
    driver.feed(Buffer.concat(writes));
    expect(taken.filter((bytes) => bytes > PIECE_BYTES)).toEqual([MIB + 28]); // one buffer for all of them
    await settled();
    expect(driver.takeReplies()).toHaveLength(6);
  });
});

describe('a payload on its way', () => {
  test('that is only announced takes nothing', async () => {
    const { driver, resources } = await open(new MemoryDevice({ sizeBytes: 64 * MIB }));
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, length: 32 * MIB }));
    expect(resources.budget.usedBytes).toBe(0);
    expect(resources.pool.leasedBytes).toBe(0);
    expect(driver.session.awaitsRest).toBe(true);
    driver.feed(Buffer.alloc(100_000));
    expect(resources.budget.usedBytes).toBe(0);
    expect(resources.pool.leasedBytes).toBe(PIECE_BYTES);
    driver.feed(Buffer.alloc(PIECE_BYTES - 100_000));
    expect(resources.budget.usedBytes).toBe(bufferClassBytes(32 * MIB + 28));
    driver.disconnect();
    expect(resources.budget.usedBytes).toBe(0);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('that stays half applies nothing and holds nobody up', async () => {
    const device = new MemoryDevice({ sizeBytes: 8 * MIB });
    const resources = testResources(new MemoryDirectory(device), { payloadBytes: bufferClassBytes(4 * MIB) });
    const [stalled, other] = [new SessionDriver(resources), new SessionDriver(resources)];
    await stalled.go();
    await other.go();
    stalled.feed(stalled.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(4 * MIB, 1) }).subarray(0, 3 * MIB));
    for (let index = 0; index < 4; index += 1) {
      const payload = pattern(200 * KIB, index);
      expect(await other.errorOf({ command: NBD_CMD_WRITE, offset: 4 * MIB, payload })).toBe(0);
      expect((await other.read(4 * MIB, payload.length)).equals(payload)).toBe(true);
    }
    stalled.disconnect();
    expect(device.data.subarray(0, 4 * MIB).every((byte) => byte === 0)).toBe(true);
    expect(stalled.isReleased).toBe(true);
  });

  test('waits its turn when memory is short, and gets it', async () => {
    const device = new MemoryDevice({ sizeBytes: 8 * MIB });
    const resources = testResources(new MemoryDirectory(device), { payloadBytes: bufferClassBytes(2 * MIB) });
    const drivers = [0, 1, 2].map(() => new SessionDriver(resources));
    for (const driver of drivers) await driver.go();
    const inputs = drivers.map((driver, index) => driver.encode({ command: NBD_CMD_WRITE, offset: index * 2 * MIB, payload: pattern(2 * MIB, index) }));
    for (const [index, driver] of drivers.entries()) driver.feed(inputs[index].subarray(0, 1_500_000));
    expect(drivers.map(({ session }) => session.wantsInput)).toEqual([true, false, false]);
    expect(drivers.map(({ session }) => session.usesPayloadMemory)).toEqual([true, true, true]);
    expect(drivers.map(({ session }) => session.awaitsRest)).toEqual([true, false, false]);
    expect(resources.budget.contended).toBe(true);
    for (const [index, driver] of drivers.entries()) driver.feed(inputs[index].subarray(1_500_000));
    for (let turn = 0; turn < 10; turn += 1) await settled();
    for (const [index, driver] of drivers.entries()) {
      expect(driver.takeReplies().map(({ error }) => error)).toEqual([0]);
      expect(Buffer.from(device.data.subarray(index * 2 * MIB, (index + 1) * 2 * MIB)).equals(pattern(2 * MIB, index))).toBe(true);
    }
    expect(resources.budget.usedBytes).toBe(0);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('of at most a piece makes nobody wait, but counts: those that stall are worth dropping once it is too much', async () => {
    const resources = testResources(new MemoryDirectory(new MemoryDevice({ sizeBytes: 8 * MIB })), { payloadBytes: 2 * PIECE_BYTES });
    const { budget } = resources;
    const drivers = [0, 1, 2].map(() => new SessionDriver(resources));
    for (const [index, driver] of drivers.entries()) {
      await driver.go();
      driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(100 * KIB, 1) }).subarray(0, 20_000));
      expect([budget.pieceBytes, budget.usedBytes, budget.contended]).toEqual([(index + 1) * PIECE_BYTES, 0, index === 2]);
      expect([driver.session.wantsInput, driver.session.usesPayloadMemory]).toEqual([true, true]);
    }
    drivers[0].disconnect();
    expect(budget.contended).toBe(false);
    for (const driver of drivers.slice(1)) driver.disconnect();
    expect([budget.pieceBytes, resources.pool.leasedBytes]).toEqual([0, 0]);
  });

  test('leaves the line when its connection is lost', async () => {
    const resources = testResources(new MemoryDirectory(new MemoryDevice({ sizeBytes: 8 * MIB })), { payloadBytes: 1 });
    const [first, second] = [new SessionDriver(resources), new SessionDriver(resources)];
    for (const driver of [first, second]) {
      await driver.go();
      driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(2 * MIB, 1) }).subarray(0, 1_000_000));
    }
    expect(resources.budget.contended).toBe(true);
    second.disconnect();
    expect(resources.budget.contended).toBe(false);
    first.disconnect();
    expect(resources.budget.usedBytes).toBe(0);
  });

  test('of a client of simple replies gives its place back at once when the server stops', async () => {
    const resources = testResources(new MemoryDirectory(new MemoryDevice({ sizeBytes: 8 * MIB })), { payloadBytes: 1 });
    const [first, second] = [new SessionDriver(resources), new SessionDriver(resources)];
    for (const driver of [first, second]) {
      await driver.go();
      driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(2 * MIB, 1) }).subarray(0, 1_000_000));
    }
    expect(resources.budget.contended).toBe(true);
    second.session.shutdown();
    expect(resources.budget.contended).toBe(false);
    first.session.shutdown();
    expect([resources.budget.usedBytes, first.finished, second.finished]).toEqual([0, 'in order', 'in order']);
  });

  test('that has become useless while it waited gives its place back', async () => {
    const resources = testResources(new MemoryDirectory(new MemoryDevice({ sizeBytes: 8 * MIB })), { payloadBytes: 1 });
    const [first, second] = [new SessionDriver(resources), new SessionDriver(resources)];
    const inputs: Buffer[] = [];
    for (const driver of [first, second]) {
      await driver.goWith('structured');
      inputs.push(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(2 * MIB, 1) }));
      driver.feed(inputs[inputs.length - 1].subarray(0, 1_000_000));
    }
    second.session.shutdown();
    first.feed(inputs[0].subarray(1_000_000));
    second.feed(inputs[1].subarray(1_000_000));
    for (let turn = 0; turn < 5; turn += 1) await settled();
    expect(first.takeReplies().map(({ error }) => error)).toEqual([0]);
    expect(second.takeReplies().map(({ error }) => error)).toEqual([108]);
    expect(resources.budget.usedBytes).toBe(0);
    expect(resources.budget.contended).toBe(false);
  });

  test('that is refused while it waited gives its place to the next one', async () => {
    const device = new MemoryDevice({ sizeBytes: 8 * MIB });
    const resources = testResources(new MemoryDirectory(device), { payloadBytes: 1 });
    const held = resources.budget.reserve(1, () => undefined);
    const driver = new SessionDriver(resources);
    await driver.go();
    const input = driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(2 * MIB, 1) });
    driver.feed(input.subarray(0, 1_000_000));
    expect(resources.budget.contended).toBe(true);
    device.readOnly = true;
    held.release();
    driver.feed(input.subarray(1_000_000));
    for (let turn = 0; turn < 5; turn += 1) await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([1]);
    expect(resources.budget.usedBytes).toBe(0);
  });

  test.each(['is refused', 'is lost'])('of an unaligned write that waits for memory and %s leaves the line', async (what) => {
    const device = new MemoryDevice({ sizeBytes: 8 * MIB });
    device.partialBlocks = true;
    const resources = testResources(new MemoryDirectory(device), { payloadBytes: 1 });
    const driver = new SessionDriver(resources);
    await driver.go();
    const held = resources.budget.reserve(100, () => undefined);
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 5000, payload: pattern(3000, 1) }));
    await settled();
    expect(resources.budget.contended).toBe(true);
    device.readOnly = true;
    if (what === 'is lost') driver.disconnect();
    else held.release();
    await settled();
    expect(resources.budget.contended).toBe(false);
    expect(resources.budget.usedBytes).toBe(what === 'is lost' ? 100 : 0);
  });

  test('of an unaligned write waits for memory too, when it must be kept', async () => {
    const device = new MemoryDevice({ sizeBytes: 8 * MIB });
    device.partialBlocks = true;
    const resources = testResources(new MemoryDirectory(device), { payloadBytes: 1 });
    const driver = new SessionDriver(resources);
    await driver.go();
    const held = resources.budget.reserve(100, () => undefined);
    driver.feed(Buffer.concat([1, 2, 3].map((index) => driver.encode({ command: NBD_CMD_WRITE, offset: index * 5000, payload: pattern(3000, index) }))));
    await settled();
    expect(driver.takeReplies()).toHaveLength(0);
    expect(driver.session.wantsInput).toBe(false);
    held.release();
    for (let turn = 0; turn < 10; turn += 1) await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0, 0, 0]);
    for (const index of [1, 2, 3]) expect(Buffer.from(device.data.subarray(index * 5000, index * 5000 + 3000)).equals(pattern(3000, index))).toBe(true);
    expect(resources.budget.usedBytes).toBe(0);
  });
});

describe('the budget of payloads', () => {
  test('grants in order, and never more than there is', () => {
    const budget = new PayloadBudget(100);
    const granted: string[] = [];
    const a = budget.reserve(60, () => granted.push('a'));
    const b = budget.reserve(60, () => granted.push('b'));
    const c = budget.reserve(10, () => granted.push('c'));
    expect([a.granted, b.granted, c.granted]).toEqual([true, false, false]); // c fits, but b was first
    expect(budget.contended).toBe(true);
    a.release();
    expect(granted).toEqual(['b', 'c']);
    expect(budget.usedBytes).toBe(70);
    b.release();
    c.release();
    expect(budget.usedBytes).toBe(0);
  });

  test('grants what is larger than itself when nobody holds anything', () => {
    const budget = new PayloadBudget(100);
    const small = budget.reserve(1, () => undefined);
    const huge = budget.reserve(1000, () => undefined);
    expect(huge.granted).toBe(false);
    small.release();
    expect(huge.granted).toBe(true);
  });

  test('lets the next ones pass when the first in line gives up', () => {
    const budget = new PayloadBudget(100);
    budget.reserve(90, () => undefined);
    const large = budget.reserve(90, () => undefined);
    const small = budget.reserve(10, () => undefined);
    large.release();
    expect(small.granted).toBe(true);
    expect(() => large.release()).toThrow('released twice');
  });
});

describe('the pool of buffers', () => {
  test('gives the warmest buffer of the right size', () => {
    const pool = new BufferPool(MIB);
    const [a, b] = [pool.take(5000), pool.take(5000)];
    expect(a.length).toBe(bufferClassBytes(5000));
    pool.give(a);
    pool.give(b);
    expect(pool.take(100)).toBe(b);
    expect(pool.take(8000)).toBe(a);
    expect(pool.take(100_000)).not.toBe(a);
  });

  test('keeps no more than it may', () => {
    const pool = new BufferPool(MIB);
    const buffers = Array.from({ length: 20 }, () => pool.take(100_000));
    for (const buffer of buffers) pool.give(buffer);
    expect(pool.idleBytes).toBeGreaterThan(MIB / 2);
    expect(pool.idleBytes).toBeLessThanOrEqual(MIB);
    expect(pool.leasedBytes).toBe(0);
    const huge = pool.take(100 * MIB);
    expect(huge.length).toBe(100 * MIB);
    pool.give(huge);
    expect(pool.idleBytes).toBeLessThanOrEqual(MIB);
  });

  test('keeps what is asked for now, not what earlier traffic left', () => {
    const pool = new BufferPool(4 * MIB);
    const earlier = Array.from({ length: 40 }, () => pool.take(100_000));
    for (const buffer of earlier) pool.give(buffer);
    const buffers = [pool.take(MIB), pool.take(MIB)];
    for (const buffer of buffers) pool.give(buffer);
    const again = [pool.take(MIB), pool.take(MIB)];
    expect(again.every((buffer) => buffers.includes(buffer))).toBe(true);
    expect(pool.idleBytes).toBeGreaterThan(MIB); // no more was dropped than had to be
    for (const buffer of buffers) pool.give(buffer);
    expect(pool.idleBytes).toBeLessThanOrEqual(4 * MIB);
  });

  test('drops nothing for a buffer that it could not keep at all', () => {
    const pool = new BufferPool(MIB);
    pool.give(pool.take(100_000));
    const idle = pool.idleBytes;
    pool.give(pool.take(16 * MIB));
    expect(pool.idleBytes).toBe(idle);
  });

  test('notices a buffer that is given back twice', () => {
    const pool = new BufferPool(MIB);
    const buffer = pool.take(1);
    pool.give(buffer);
    expect(() => pool.give(buffer)).toThrow('twice');
  });
});
