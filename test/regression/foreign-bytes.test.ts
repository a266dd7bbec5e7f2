/**
 * No reply carries a byte that is not of its volume: all memory that may reach the wire is poisoned before it is used (buffers of the pool, slabs
 * of the arena, `allocUnsafe`), two volumes share it, and every byte that each client is sent is looked at.
 */
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Arena, type Slab } from '../../src/base/arena.ts';
import { MIB } from '../../src/base/units.ts';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_CACHE, NBD_CMD_FLAG_DF, NBD_CMD_FLAG_FUA, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../src/protocol/constants.ts';
import { BufferPool } from '../../src/session/buffer-pool.ts';
import type { SessionResources } from '../../src/session/host.ts';
import { createVolume } from '../../src/volume/create-volume.ts';
import { openVolume } from '../../src/volume/open-volume.ts';
import type { Volume } from '../../src/volume/volume.ts';
import { SeededRandom } from '../sim/random.ts';
import { BLOCK_BYTES, nodeEnv, Scratch, SLAB_BYTES, smallSettings } from '../support/engine-harness.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { NbdClient } from '../support/nbd-client.ts';
import type { ReplyStyle } from '../support/reply-reader.ts';
import { ServerHarness } from '../support/server-harness.ts';
import { SessionDriver, settled, testResources, type TestRequest } from '../support/session-driver.ts';
import { TestPki } from '../support/test-pki.ts';

const POISON = 0xdd;
const SIZE_BYTES = 4 * MIB;
/** So many poisoned bytes in a row are no accident of a cookie, an offset and a length. */
const RUN = Buffer.alloc(4, POISON);

class PoisonedArena extends Arena {
  override takeDirty(owner: Parameters<Arena['takeDirty']>[0]): Slab {
    return poisoned(super.takeDirty(owner));
  }

  override takeClean(owner: Parameters<Arena['takeClean']>[0]): Slab {
    return poisoned(super.takeClean(owner));
  }
}

function poisoned(slab: Slab): Slab {
  slab.bytes.fill(POISON);
  return slab;
}

beforeEach(() => {
  // oxlint-disable-next-line typescript/unbound-method -- it is called with its pool below
  const take = BufferPool.prototype.take;
  vi.spyOn(BufferPool.prototype, 'take').mockImplementation(function poisonedTake(this: BufferPool, bytes: number) {
    return take.call(this, bytes).fill(POISON);
  });
  const allocUnsafe = Buffer.allocUnsafe.bind(Buffer);
  vi.spyOn(Buffer, 'allocUnsafe').mockImplementation((bytes) => allocUnsafe(bytes).fill(POISON));
  vi.spyOn(Buffer, 'allocUnsafeSlow').mockImplementation((bytes) => Buffer.alloc(bytes, POISON));
});

afterEach(() => vi.restoreAllMocks());

/** One client of one volume: what it wrote is `letter`, and what the volume must hold. */
interface Side {
  readonly volume: Volume;
  readonly driver: SessionDriver;
  readonly letter: number;
  readonly foreign: Buffer;
  readonly model: Uint8Array;
}

class World {
  readonly #scratch = new Scratch();
  readonly #volumes = new Map<string, Volume>();
  readonly resources: SessionResources;
  readonly #settings = smallSettings({ flushBytes: 2 * SLAB_BYTES });
  readonly #arena = new PoisonedArena({ arenaBytes: this.#settings.arenaBytes, dirtyBytes: this.#settings.dirtyBytes, slabBytes: SLAB_BYTES });

  constructor() {
    const acquire = (name: string): Promise<Volume> => {
      const volume = this.#volumes.get(name);
      return volume === undefined ? Promise.reject(new Error(name)) : Promise.resolve(volume);
    };
    const directory = { list: () => Promise.resolve([]), acquire, release: () => undefined, limitsInForce: () => NO_LIMITS };
    this.resources = testResources(directory, { maxReplyBytes: 2 * MIB });
    this.resources.scratch.fill(POISON);
  }

  async open(name: string): Promise<Volume> {
    const directory = `${this.#scratch.path}/${name}`;
    const env = nodeEnv();
    if (!this.#volumes.has(name)) await createVolume({ env, directory, settings: this.#settings, create: { sizeBytes: SIZE_BYTES, blockSizeBytes: BLOCK_BYTES, durability: 'relaxed' } });
    const volume = await openVolume({ env, directory, settings: this.#settings, arena: this.#arena });
    this.#volumes.set(name, volume);
    return volume;
  }

  async side(name: string, style: ReplyStyle, { letter, other, secured }: { readonly letter: string; readonly other: string; readonly secured: boolean }): Promise<Side> {
    const volume = await this.open(name);
    const client = { tls: secured ? ('forced' as const) : ('off' as const), securedFlags: secured ? 3 : null, termsOf: () => 'writable' as const };
    const driver = new SessionDriver(this.resources, client);
    if (!secured) driver.greet();
    await driver.goWith(style, ['base:allocation', 'basalt:state', 'qemu:allocation-depth'], name, { greets: false });
    return { volume, driver, letter: letter.charCodeAt(0), foreign: Buffer.alloc(4, other), model: new Uint8Array(SIZE_BYTES) };
  }

  async close(): Promise<void> {
    for (const volume of this.#volumes.values()) await volume.close();
    this.#scratch.remove();
  }
}

function randomRequest(random: SeededRandom, { letter }: Side, style: ReplyStyle): TestRequest {
  const isAligned = random.below(2) === 0;
  const at = random.below(SIZE_BYTES - 300_000);
  const offset = isAligned ? at - (at % BLOCK_BYTES) : at;
  const long = 1 + random.below(random.below(4) === 0 ? 250_000 : 9000);
  const length = isAligned ? Math.ceil(long / BLOCK_BYTES) * BLOCK_BYTES : long;
  const isStructured = style !== 'simple';
  switch (random.below(12)) {
    case 0:
    case 1:
      return { command: NBD_CMD_WRITE, offset, payload: new Uint8Array(length).fill(letter), flags: random.below(2) * NBD_CMD_FLAG_FUA };
    case 2:
      return { command: NBD_CMD_WRITE_ZEROES, offset, length };
    case 3:
      return { command: NBD_CMD_TRIM, offset, length };
    case 4:
      return { command: NBD_CMD_CACHE, offset, length };
    case 5:
      return isStructured ? { command: NBD_CMD_BLOCK_STATUS, offset, length, flags: random.below(2) * NBD_CMD_FLAG_REQ_ONE } : { command: NBD_CMD_READ, offset, length };
    case 6:
      return { command: NBD_CMD_READ, offset: SIZE_BYTES - 10, length: 4096 };
    case 7:
      return isStructured ? { command: NBD_CMD_READ, offset, length, flags: NBD_CMD_FLAG_DF } : { command: 77, offset, length };
    default:
      return { command: NBD_CMD_READ, offset, length };
  }
}

function apply({ model }: Side, { command, offset, length, payload }: TestRequest): void {
  const at = Number(offset);
  const end = at + Number(length ?? 0);
  if (command === NBD_CMD_WRITE && payload !== undefined) model.set(payload, at);
  else if (command === NBD_CMD_WRITE_ZEROES) model.fill(0, at, end);
  else if (command === NBD_CMD_TRIM) {
    const first = Math.ceil(at / BLOCK_BYTES) * BLOCK_BYTES;
    const last = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
    if (last > first) model.fill(0, first, last);
  }
}

/** Sends requests together and looks at every byte of the answers. */
async function exchange(side: Side, requests: readonly TestRequest[]): Promise<void> {
  const { driver, model, foreign } = side;
  const first = driver.nextCookie;
  driver.feed(Buffer.concat(requests.map((request) => driver.encode(request))));
  for (let turn = 0; driver.outstandingCount > 0 && turn < 10_000; turn += 1) {
    await settled();
    const output = driver.peekOutput();
    expect(output.includes(RUN)).toBe(false);
    expect(output.includes(foreign)).toBe(false);
    for (const { cookie, data, error } of driver.takeReplies()) {
      const { command, offset } = requests[Buffer.from(cookie, 'hex').readUInt32BE(2) - first];
      const isRead = command === NBD_CMD_READ && error === 0;
      const begin = isRead ? Number(offset) : 0;
      expect(Buffer.compare(data, model.subarray(begin, begin + data.length))).toBe(0); // nothing, unless it is a READ
    }
  }
  expect(driver.outstandingCount).toBe(0);
}

const isChange = ({ command }: TestRequest): boolean => command === NBD_CMD_WRITE || command === NBD_CMD_WRITE_ZEROES || command === NBD_CMD_TRIM;

/** Reads in flight together; changes alone, so that what a read must find is known. */
async function step(random: SeededRandom, side: Side, style: ReplyStyle): Promise<void> {
  const requests = Array.from({ length: 1 + random.below(6) }, () => randomRequest(random, side, style));
  for (const change of requests.filter(isChange)) {
    await exchange(side, [change]);
    apply(side, change);
  }
  await exchange(side, requests.filter((request) => !isChange(request)));
}

const CASES = (['simple', 'structured', 'extended'] as const).flatMap((style) => [false, true].map((secured) => ({ style, secured })));

describe('with all memory poisoned', () => {
  test.each(CASES)('no foreign byte reaches the wire: $style replies, behind TLS: $secured', async ({ style, secured }) => {
    const world = new World();
    const a = await world.side('a', style, { letter: 'A', other: 'B', secured });
    const b = await world.side('b', style, { letter: 'B', other: 'A', secured });
    const random = new SeededRandom(7 + style.length + Number(secured));
    for (let round = 0; round < 60; round += 1) {
      await step(random, a, style);
      await step(random, b, style);
    }
    // Far more than the slabs hold: most of it comes back from the disk, into slabs that others have used.
    for (const side of [a, b]) for (let at = 0; at < SIZE_BYTES; at += 130_000) await exchange(side, [{ command: NBD_CMD_READ, offset: at, length: Math.min(130_001, SIZE_BYTES - at) }]);
    for (const { driver } of [a, b]) driver.disconnect();
    expect(world.resources.pool.leasedBytes).toBe(0);
    await world.close();
  });
});

describe('with all memory of a server poisoned', () => {
  test.each(['simple', 'structured', 'extended'] as const)('two clients behind TLS read their volumes and nothing else: %s replies', async (style) => {
    const pki = await TestPki.create();
    const devices = ['A', 'B'].map((letter) => new MemoryDevice({ name: letter, sizeBytes: MIB }));
    const random = new SeededRandom(3);
    for (const { data, name } of devices) for (let at = 0; at < MIB; at += BLOCK_BYTES) if (random.below(2) === 0) data.fill(name.charCodeAt(0), at, at + BLOCK_BYTES);
    const harness = await ServerHarness.start({ devices, settings: { tls: 'forced', tlsCertificates: pki.directory } });
    const clients = await Promise.all(
      devices.map(async ({ name }) => {
        const client = await NbdClient.connect(harness.address);
        await client.greet();
        await client.startTls({ ca: pki.authority.certificate, servername: 'localhost' });
        if (style !== 'simple') await client.agree(style);
        await client.go(name);
        return client;
      }),
    );
    for (let round = 0; round < 60; round += 1) {
      const device = devices[round % 2];
      device.cold = random.below(3) === 0;
      device.lends = random.below(3) === 0;
      const reads = Array.from({ length: 4 }, () => ({ offset: random.below(MIB - 200_000), length: 1 + random.below(random.below(2) === 0 ? 6000 : 200_000) }));
      const found = await Promise.all(reads.map(({ offset, length }) => clients[round % 2].read(offset, length)));
      for (const [index, { offset, length }] of reads.entries()) expect(Buffer.compare(found[index], device.data.subarray(offset, offset + length))).toBe(0);
    }
    for (const client of clients) await client.close();
    await harness.stop();
    await pki.dispose();
  });
});
