import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import type { RequestSnapshot } from '../../src/base/request-stats.ts';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_CACHE, NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_WRITE, NBD_CMD_WRITE_ZEROES } from '../../src/protocol/constants.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

class World {
  readonly device = new MemoryDevice();
  nowMs = 1000;
  looks = 0;
  readonly resources = testResources(new MemoryDirectory(this.device), { maxRequestsInFlight: 4 }, () => {
    this.looks += 1;
    return this.nowMs;
  });
  driver = new SessionDriver(this.resources);

  get stats(): RequestSnapshot {
    const found = this.resources.traffic.find('disk');
    if (found === null) throw new Error('nobody had the volume');
    return found.snapshot();
  }
}

async function open(): Promise<World> {
  const world = new World();
  await world.driver.goWith('structured', ['base:allocation']);
  return world;
}

describe('the statistics of a volume', () => {
  test('count each kind of request, and its bytes', async () => {
    const world = await open();
    const { driver } = world;
    await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096, 1) },
      { command: NBD_CMD_READ, offset: 0, length: 8192 },
      { command: NBD_CMD_READ, offset: 0, length: 512 },
      { command: NBD_CMD_READ, offset: 65536, length: 4096 },
    );
    await driver.exchange({ command: NBD_CMD_FLUSH, offset: 7, length: 9 }, { command: NBD_CMD_TRIM, offset: 4096, length: 8192 }, { command: NBD_CMD_WRITE_ZEROES, offset: 0, length: 4096 });
    await driver.exchange({ command: NBD_CMD_CACHE, offset: 0, length: 4096 }, { command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 16384 });
    const { operations, clients, inFlight, refused } = world.stats;
    const counted = Object.entries(operations).map(([name, { count, bytes, errors }]) => [name, count, bytes, errors]);
    expect(counted).toEqual([['read', 3, 12_800, 0], ['write', 1, 4096, 0], ['flush', 1, 0, 0], ['trim', 1, 8192, 0], ['zero', 1, 4096, 0], ['cache', 1, 4096, 0], ['status', 1, 16_384, 0]]);
    expect({ clients, inFlight, refused }).toEqual({ clients: 1, inFlight: 0, refused: 0 });
  });

  test('time a request from its arrival until its answer is with the socket', async () => {
    const world = await open();
    const { driver, device } = world;
    device.settleTime = 'by hand';
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096) }));
    world.nowMs += 5;
    driver.feed(driver.encode({ command: NBD_CMD_FLUSH }));
    world.nowMs += 3;
    expect(world.stats).toMatchObject({ inFlight: 2, inFlightMax: 2 });
    device.settleAll();
    await settled();
    expect(world.stats.operations.write.latency).toMatchObject({ count: 1, sumMs: 8, maxMs: 8 });
    expect(world.stats.operations.flush.latency).toMatchObject({ count: 1, sumMs: 3 });
    expect(world.stats.inFlight).toBe(0);
  });

  test('time reads that wait for the disk, with data and with holes', async () => {
    const world = await open();
    world.device.data.fill(7, 0, 32_768);
    world.device.cold = true;
    world.device.readsWait = true;
    world.driver.feed(Buffer.concat([world.driver.encode({ command: NBD_CMD_READ, offset: 0, length: 4096 }), world.driver.encode({ command: NBD_CMD_READ, offset: 0, length: 65536 })]));
    world.nowMs += 2;
    world.device.warm();
    await settled();
    expect(world.stats.operations.read).toMatchObject({ count: 2, bytes: 69_632, latency: { sumMs: 4 } });
  });

  test('count the time that a request waits for its turn', async () => {
    const world = await open();
    const { driver, device } = world;
    device.settleTime = 'by hand';
    const flush = (): Buffer => driver.encode({ command: NBD_CMD_FLUSH });
    driver.feed(Buffer.concat([flush(), flush(), flush(), flush(), flush()])); // the fifth is beyond the limit
    world.nowMs += 10;
    device.settleAll();
    await settled();
    world.nowMs += 1;
    device.settleAll();
    await settled();
    expect(world.stats.operations.flush.latency).toMatchObject({ count: 5, sumMs: 51, maxMs: 11 });
  });

  test('count what fails and what is refused apart, and do not time it', async () => {
    const world = await open();
    const { driver, device } = world;
    await driver.exchange({ command: NBD_CMD_READ, offset: 1024 * 1024, length: 1 }, { command: NBD_CMD_WRITE, offset: 1024 * 1024, payload: Buffer.alloc(1) });
    device.failure = new VolumeError('io-error', 'the disk is gone');
    await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 1 }, { command: NBD_CMD_FLUSH });
    device.failure = null;
    device.completionError = new VolumeError('io-error', 'the disk is gone');
    await driver.exchange({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096) });
    const { operations, refused, inFlight } = world.stats;
    expect(refused).toBe(2);
    expect([operations.read, operations.write, operations.flush].map(({ count, bytes, errors }) => [count, bytes, errors])).toEqual([[0, 0, 1], [0, 0, 1], [0, 0, 1]]);
    expect(inFlight).toBe(0);
  });

  test('are of all clients, and outlive them', async () => {
    const world = await open();
    const second = new SessionDriver(world.resources);
    await second.go('disk');
    expect(world.stats.clients).toBe(2);
    await second.read(0, 4096);
    await world.driver.read(0, 4096);
    second.disconnect();
    world.device.settleTime = 'by hand';
    world.driver.feed(world.driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096) }));
    world.driver.disconnect();
    expect(world.stats).toMatchObject({ clients: 1, inFlight: 1 }); // its write is under way
    world.device.settleAll();
    await settled();
    expect(world.stats).toMatchObject({ clients: 0, inFlight: 0, operations: { read: { count: 2 }, write: { count: 0, errors: 0 } } });
  });

  test('take two looks at the clock for all that arrives together', async () => {
    const world = await open();
    world.looks = 0;
    await world.driver.exchange(...Array.from({ length: 200 }, (_, index) => ({ command: index % 2 === 0 ? NBD_CMD_READ : NBD_CMD_CACHE, offset: 0, length: 512 })));
    const afterReads = world.looks;
    world.looks = 0;
    await world.driver.exchange(...Array.from({ length: 3 }, () => ({ command: NBD_CMD_READ, offset: 0, length: 512 })));
    expect(world.looks).toBe(2);
    expect(afterReads).toBeLessThan(120); // CACHE is a promise, and four are under way at most
    expect(world.stats.operations.read.count).toBe(103);
  });
});
