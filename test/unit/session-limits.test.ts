/** What a session does when something is full: the device, its window of requests, the client's patience for replies. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import {
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EIO,
} from '../../src/protocol/constants.ts';
import { bufferClassBytes, PIECE_BYTES } from '../../src/session/buffer-pool.ts';
import type { SessionResources } from '../../src/session/host.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, settled, testResources, type TestRequest } from '../support/session-driver.ts';

const MIB = 1024 * 1024;

async function open(settings = {}, device = new MemoryDevice()): Promise<{ driver: SessionDriver; device: MemoryDevice; resources: SessionResources }> {
  const resources = testResources(new MemoryDirectory(device), settings);
  const driver = new SessionDriver(resources);
  await driver.go(device.name);
  return { driver, device, resources };
}

const write = (index: number, length = 4096): TestRequest => ({
  command: NBD_CMD_WRITE,
  offset: index * length,
  payload: Buffer.alloc(length, index + 1),
});

describe('a device without room', () => {
  test.each<[string, TestRequest]>([
    ['a write', write(0)],
    ['a large write', write(0, 700_000)],
    ['zeroes', { command: NBD_CMD_WRITE_ZEROES, offset: 0, length: 4096 }],
    ['a trim', { command: NBD_CMD_TRIM, offset: 0, length: 4096 }],
  ])('lets %s wait, and what comes behind it', async (_, request) => {
    const { driver, device, resources } = await open();
    device.full = true;
    driver.feed(Buffer.concat([driver.encode(request), driver.encode({ command: NBD_CMD_READ, offset: 0, length: 1 }), driver.encode(write(1))]));
    driver.feed(driver.encode({ command: NBD_CMD_FLUSH }));
    await settled();
    expect(driver.takeReplies()).toHaveLength(0);
    expect(driver.session.wantsInput).toBe(false);
    device.makeRoom();
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0, 0, 0, 0]);
    expect(driver.session.wantsInput).toBe(true);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('that makes room within submit is heard', async () => {
    const { driver, device } = await open();
    device.full = true;
    device.roomAtSubmit = true;
    const replies = await driver.exchange({ command: NBD_CMD_FLUSH }, write(0), write(1));
    expect(replies.map(({ error }) => error)).toEqual([0, 0, 0]);
  });

  test('that stays full when room was announced makes the request wait again', async () => {
    const { driver, device } = await open();
    device.full = true;
    driver.feed(driver.encode(write(0)));
    await settled();
    device.makeRoom();
    device.full = true;
    await settled();
    expect(driver.takeReplies()).toHaveLength(0);
    device.makeRoom();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
  });

  test('that gives up answers the request that waited, and only that one', async () => {
    const { driver, device } = await open();
    device.full = true;
    driver.feed(Buffer.concat([driver.encode(write(0)), driver.encode({ command: NBD_CMD_FLUSH }), driver.encode(write(1))]));
    await settled();
    device.makeRoom(new VolumeError('failed', 'the volume takes no more writes'));
    await settled();
    const replies = driver.takeReplies();
    const byNumber = new Map(replies.map(({ cookie, error }) => [Buffer.from(cookie, 'hex').readUInt32BE(2), error]));
    expect([byNumber.get(1), byNumber.get(2), byNumber.get(3)]).toEqual([NBD_EIO, 0, 0]);
  });

  test('does not stop requests under way from being answered', async () => {
    const { driver, device } = await open();
    device.settleTime = 'by hand';
    driver.feed(driver.encode(write(0)));
    device.full = true;
    driver.feed(driver.encode(write(1)));
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
    device.makeRoom();
    await settled();
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
  });

  test('does not keep a lost connection alive', async () => {
    const { driver, device } = await open();
    device.full = true;
    driver.feed(driver.encode(write(0)));
    await settled();
    driver.disconnect();
    expect(driver.isReleased).toBe(true);
    device.makeRoom();
    await settled();
    expect(device.data[0]).toBe(0);
  });

  test('drops what waits long enough for its client to have sent it again, when that has left', async () => {
    let nowMs = 0;
    const device = new MemoryDevice();
    const directory = new MemoryDirectory(device);
    const driver = new SessionDriver(testResources(directory, {}, () => nowMs));
    await driver.go();
    device.full = true;
    driver.feed(Buffer.concat([driver.encode(write(0)), driver.encode(write(1))]));
    await settled();
    driver.isLeft = true;
    nowMs = 20;
    device.makeRoom();
    await settled();
    expect(driver.takeReplies()).toHaveLength(0);
    expect(device.data[0]).toBe(0);
    expect(driver.finished).toBe('in order');
    expect(driver.isReleased).toBe(true);
    expect(directory.holderCount('disk')).toBe(0);
  });

  test('lets the end of the stream wait behind the last request', async () => {
    const { driver, device } = await open();
    device.full = true;
    driver.feed(Buffer.concat([driver.encode(write(0)), requestBytes({ command: NBD_CMD_DISC, cookie: Buffer.alloc(8) })]));
    driver.session.inputEnded();
    await settled();
    expect(driver.finished).toBe('no');
    device.makeRoom();
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0]);
    expect(driver.finished).toBe('in order');
  });
});

describe('the window of requests', () => {
  test('holds no more than it may, and moves on with each answer', async () => {
    const { driver, device } = await open({ maxRequestsInFlight: 4 });
    device.settleTime = 'by hand';
    driver.feed(Buffer.concat(Array.from({ length: 10 }, (_, index) => driver.encode(write(index)))));
    await settled();
    expect(device.pendingCount).toBe(4);
    expect(driver.session.wantsInput).toBe(false);
    device.settleAll();
    await settled();
    expect(device.pendingCount).toBe(4);
    device.settleAll();
    await settled();
    expect(device.pendingCount).toBe(2);
    expect(driver.session.wantsInput).toBe(true);
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(10);
  });

  test('moves on within the turn where the device answers at once', async () => {
    const { driver, device } = await open({ maxRequestsInFlight: 2 });
    driver.feed(Buffer.concat(Array.from({ length: 9 }, (_, index) => driver.encode(write(index)))));
    expect(device.calls.filter((call) => call === 'submit')).toHaveLength(5);
    await settled();
    expect(driver.takeReplies()).toHaveLength(9);
    expect(driver.session.wantsInput).toBe(true);
  });

  test('counts reads that wait for the disk', async () => {
    const { driver, device } = await open({ maxRequestsInFlight: 3 });
    device.cold = true;
    device.readsWait = true;
    driver.feed(Buffer.concat(Array.from({ length: 5 }, (_, index) => driver.encode({ command: NBD_CMD_READ, offset: index * 4096, length: 4096 }))));
    await settled();
    expect(device.calls.filter((call) => call.startsWith('read '))).toHaveLength(3);
    device.warm();
    await settled();
    expect(device.calls.filter((call) => call.startsWith('read '))).toHaveLength(5);
    device.warm();
    await settled();
    expect(driver.takeReplies()).toHaveLength(5);
  });
});

describe('replies that the client does not take', () => {
  test.each([false, true])('stop further reads, and their memory is bounded (cold: %s)', async (cold) => {
    const { driver, device, resources } = await open({ maxReplyBytes: MIB }, new MemoryDevice({ sizeBytes: 4 * MIB }));
    device.data.fill(3);
    device.cold = cold;
    driver.takesReplies = false;
    const input = Buffer.concat(Array.from({ length: 40 }, (_, index) => driver.encode({ command: NBD_CMD_READ, offset: index * 1000, length: 300_000 })));
    driver.feed(input);
    await settled();
    expect(driver.session.wantsInput).toBe(false);
    expect(driver.session.counters.requestCount).toBe(3);
    expect(resources.pool.leasedBytes).toBeLessThan(2 * MIB);
    for (let turn = 0; turn < 40; turn += 1) {
      driver.takeUnsent();
      await settled();
    }
    const replies = driver.takeReplies();
    expect(replies).toHaveLength(40);
    expect(replies.every(({ data }) => data.length === 300_000 && data.every((byte) => byte === 3))).toBe(true);
    expect(resources.pool.leasedBytes).toBe(0);
    expect(driver.session.wantsInput).toBe(true);
  });

  test('let one read through that is larger than the limit', async () => {
    const { driver } = await open({ maxReplyBytes: 1000 });
    const data = await driver.read(0, MIB);
    expect(data).toHaveLength(MIB);
  });

  test('stop small requests as well', async () => {
    const { driver } = await open({ maxReplyBytes: 64 });
    driver.takesReplies = false;
    driver.feed(Buffer.concat(Array.from({ length: 20 }, () => driver.encode({ command: NBD_CMD_READ, offset: 0, length: 1 }))));
    await settled();
    expect(driver.session.counters.requestCount).toBeLessThan(20);
    for (let turn = 0; turn < 20; turn += 1) {
      driver.takeUnsent();
      await settled();
    }
    expect(driver.takeReplies()).toHaveLength(20);
  });

  test('stop requests that are refused, too', async () => {
    const { driver } = await open({ maxReplyBytes: 64 });
    driver.takesReplies = false;
    driver.feed(Buffer.concat(Array.from({ length: 20 }, () => driver.encode({ command: 77 }))));
    expect(driver.session.counters.requestCount).toBe(4);
    for (let turn = 0; turn < 20; turn += 1) {
      driver.takeUnsent();
      await settled();
    }
    expect(driver.takeReplies()).toHaveLength(20);
  });

  test('of small requests that come one at a time take no buffer each', async () => {
    const { driver, resources } = await open();
    driver.takesReplies = false;
    for (let count = 0; count < 200; count += 1) {
      driver.feed(driver.encode({ command: NBD_CMD_READ, offset: count, length: 1 }));
      await settled();
    }
    expect(driver.session.counters.requestCount).toBe(200);
    expect(resources.pool.leasedBytes).toBeLessThanOrEqual(3 * PIECE_BYTES);
    driver.takeUnsent();
    expect(driver.takeReplies()).toHaveLength(200);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('that wait for the kernel still go out behind a goodbye', async () => {
    const { driver } = await open();
    driver.takesReplies = false;
    for (let count = 0; count < 5; count += 1) driver.feed(driver.encode({ command: NBD_CMD_READ, offset: count, length: 1 }));
    driver.feed(requestBytes({ command: NBD_CMD_DISC, cookie: Buffer.alloc(8) }));
    expect(driver.finished).toBe('in order');
    driver.takeUnsent();
    expect(driver.takeReplies()).toHaveLength(5);
  });

  test('that are lent come in their places among the others', async () => {
    const { driver, device } = await open();
    device.data.set(Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7) & 0xff)));
    device.lends = true;
    const replies = await driver.exchange(
      { command: NBD_CMD_READ, offset: 1, length: 1000 },
      { command: NBD_CMD_READ, offset: 2, length: 40_000 },
      { command: NBD_CMD_READ, offset: 3, length: 131_072 },
      { command: NBD_CMD_READ, offset: 4, length: 500 },
    );
    expect(replies.map(({ data }, index) => data.equals(device.data.subarray(index + 1, index + 1 + [1000, 40_000, 131_072, 500][index])))).toEqual([true, true, true, true]);
    expect(device.calls).toEqual(['readNow 1+1000', 'lend 2+40000', 'lend 3+131072', 'readNow 4+500']);
    expect(driver.sendCount).toBe(1);
    expect(device.onLoan).toBe(0);
  });

  test('that are lent by the device are released when the kernel has them, or the connection is lost', async () => {
    const { driver, device } = await open();
    device.lends = true;
    driver.takesReplies = false;
    const read = { command: NBD_CMD_READ, offset: 0, length: 100_000 };
    driver.feed(Buffer.concat([driver.encode(read), driver.encode({ ...read, offset: 5000 })]));
    expect(device.onLoan).toBe(2);
    driver.takeUnsent();
    await settled();
    expect(device.onLoan).toBe(0);
    driver.feed(driver.encode(read));
    expect(device.onLoan).toBe(1);
    driver.disconnect();
    await settled();
    expect(device.onLoan).toBe(0);
  });

  test('count with all of their buffers in the memory of all connections, while they are made and while they wait', async () => {
    const { driver, device, resources } = await open();
    const { replyBudget, pool } = resources;
    driver.takesReplies = false;
    device.cold = true;
    device.readsWait = true;
    await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 40_000 });
    expect([replyBudget.usedBytes, pool.leasedBytes]).toEqual([bufferClassBytes(40_016), bufferClassBytes(40_016)]);
    device.warm();
    await settled();
    expect([replyBudget.usedBytes, pool.leasedBytes]).toEqual([bufferClassBytes(40_016), bufferClassBytes(40_016)]);
    driver.takeUnsent();
    await settled();
    expect([replyBudget.usedBytes, pool.leasedBytes]).toEqual([0, 0]);
    expect(driver.takeReplies()).toHaveLength(1);
  });

  test('are given back when the connection is lost', async () => {
    const { driver, device, resources } = await open();
    driver.takesReplies = false;
    device.settleTime = 'by hand';
    await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 500_000 }, write(0), { command: NBD_CMD_READ, offset: 0, length: 500 });
    driver.disconnect();
    device.settleAll();
    await settled();
    expect(driver.isReleased).toBe(true);
    expect(resources.pool.leasedBytes).toBe(0);
  });
});

describe('two connections of one volume', () => {
  test('see each other at once, and one FLUSH is for both', async () => {
    const device = new MemoryDevice();
    const resources = testResources(new MemoryDirectory(device));
    const [a, b] = [new SessionDriver(resources), new SessionDriver(resources)];
    await a.go();
    await b.go();
    await a.exchange(write(3));
    expect((await b.read(3 * 4096, 4096)).every((byte) => byte === 4)).toBe(true);
    await b.exchange({ command: NBD_CMD_FLUSH });
    expect(device.calls.slice(-3)).toEqual([`readNow ${3 * 4096}+4096`, 'flush', 'submit']);
    a.disconnect();
    expect((await b.read(3 * 4096, 1))[0]).toBe(4);
  });

  test('get their own answers, though their cookies are the same', async () => {
    const device = new MemoryDevice();
    device.settleTime = 'by hand';
    const resources = testResources(new MemoryDirectory(device));
    const [a, b] = [new SessionDriver(resources), new SessionDriver(resources)];
    await a.go();
    await b.go();
    await a.exchange(write(0), write(1));
    await b.exchange(write(2));
    device.settleAll();
    await settled();
    expect(a.takeReplies()).toHaveLength(2);
    expect(b.takeReplies()).toHaveLength(1);
  });

  test('do not wait for each other', async () => {
    const device = new MemoryDevice();
    const resources = testResources(new MemoryDirectory(device), { maxRequestsInFlight: 1 });
    const [a, b] = [new SessionDriver(resources), new SessionDriver(resources)];
    await a.go();
    await b.go();
    device.cold = true;
    device.readsWait = true;
    await a.exchange({ command: NBD_CMD_READ, offset: 0, length: 4096 }, { command: NBD_CMD_READ, offset: 0, length: 4096 });
    device.cold = false;
    expect(await b.read(0, 4096)).toHaveLength(4096);
    device.warm();
  });
});
