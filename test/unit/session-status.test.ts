/** NBD_CMD_BLOCK_STATUS, with both widths of headers, and what extended headers alone have. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { EXTENT } from '../../src/base/extent-list.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_PAYLOAD_LEN,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ESHUTDOWN,
} from '../../src/protocol/constants.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { extendedRequestBytes, requestBytes } from '../support/nbd-bytes.ts';
import type { AskedRequest, ReplyStyle } from '../support/reply-reader.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

const BLOCK = 4096;
const SIZE = 256 * BLOCK;
const BOTH = ['base:allocation', 'basalt:state'];
const ALLOCATION = 1;
const STATE = 2;
const DEPTH = 3;

const styles: { style: ReplyStyle }[] = [{ style: 'structured' }, { style: 'extended' }];

async function open(style: ReplyStyle, contexts: readonly string[] = BOTH, settings = {}) {
  const device = new MemoryDevice({ sizeBytes: SIZE });
  const resources = testResources(new MemoryDirectory(device), settings);
  const driver = new SessionDriver(resources);
  await driver.goWith(style, contexts);
  return { driver, device, resources };
}

/** Gives the blocks from 0 on these kinds. */
function lay(device: MemoryDevice, kinds: readonly (keyof typeof EXTENT)[]): void {
  for (const [block, kind] of kinds.entries()) {
    device.kinds.set(block, EXTENT[kind]);
    if (EXTENT[kind] >= EXTENT.DATA) device.data[block * BLOCK] = 1;
  }
}

const status = (offset: number | bigint, length: number | bigint, flags = 0): AskedRequest => ({ command: NBD_CMD_BLOCK_STATUS, offset, length, flags });

async function one(driver: SessionDriver, request: AskedRequest) {
  const replies = await driver.exchange(request);
  expect(replies).toHaveLength(1);
  return replies[0];
}

/** A context's extents as `blocks:status`. */
function told(statuses: ReadonlyMap<number, readonly { length: number; status: number }[]>, id: number): string {
  return (statuses.get(id) ?? []).map((extent) => `${extent.length / BLOCK}:${extent.status}`).join(' ');
}

describe.each(styles)('BLOCK_STATUS with $style headers', ({ style }) => {
  test.each(['warm', 'cold'])('tells each context, neighbours merged, from a %s map', async (map) => {
    const { driver, device } = await open(style);
    lay(device, ['HOT', 'PENDING', 'PERSISTED', 'CACHED', 'CACHED', 'PROVISIONED', 'EMPTY', 'EMPTY', 'HOT']);
    device.mapCold = map === 'cold';
    const { statuses, types } = await one(driver, status(0, 10 * BLOCK));
    expect(told(statuses, ALLOCATION)).toBe('5:0 1:2 2:3 1:0 1:3');
    expect(told(statuses, STATE)).toBe('1:1 1:2 1:4 2:8 1:48 2:16 1:1 1:16');
    expect(types).toEqual(style === 'extended' ? [6, 6] : [5, 5]);
  });

  test('tells one context if one was selected', async () => {
    const { driver } = await open(style, ['basalt:state']);
    const { statuses } = await one(driver, status(0, SIZE));
    expect([...statuses.keys()]).toEqual([STATE]);
    expect(told(statuses, STATE)).toBe('256:16');
  });

  test('tells the depth of allocation: 1 of all that takes space, in one extent', async () => {
    const { driver, device } = await open(style, ['qemu:allocation-depth']);
    lay(device, ['HOT', 'PROVISIONED', 'CACHED', 'EMPTY', 'PROVISIONED', 'EMPTY', 'EMPTY']);
    const { statuses } = await one(driver, status(0, 7 * BLOCK));
    expect(told(statuses, DEPTH)).toBe('3:1 1:0 1:1 2:0');
  });

  test('begins and ends within blocks where the request does', async () => {
    const { driver, device } = await open(style);
    lay(device, ['HOT', 'EMPTY']);
    const { statuses } = await one(driver, status(100, BLOCK));
    expect(statuses.get(ALLOCATION)).toEqual([
      { length: BLOCK - 100, status: 0 },
      { length: 100, status: 3 },
    ]);
  });

  test('with REQ_ONE tells one extent of each context, no longer than the request', async () => {
    const { driver, device } = await open(style);
    lay(device, ['HOT', 'CACHED', 'EMPTY']);
    const { statuses } = await one(driver, status(0, 100 * BLOCK, NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_FUA));
    expect([told(statuses, ALLOCATION), told(statuses, STATE)]).toEqual(['2:0', '1:1']);
    expect(told((await one(driver, status(0, BLOCK, NBD_CMD_FLAG_REQ_ONE))).statuses, ALLOCATION)).toBe('1:0');
  });

  test('tells no more than the limit of replies allows, and goes on from there', async () => {
    const { driver, device } = await open(style, BOTH, { maxReplyBytes: 1024 });
    for (let block = 0; block < 256; block += 2) device.data[block * BLOCK] = 1;
    let offset = 0;
    let rounds = 0;
    while (offset < SIZE) {
      const { statuses } = await one(driver, status(offset, SIZE - offset));
      const extents = statuses.get(ALLOCATION) ?? [];
      expect(extents.length).toBeLessThanOrEqual(64);
      offset += extents.reduce((sum, { length }) => sum + length, 0);
      rounds += 1;
    }
    expect(offset).toBe(SIZE);
    expect(rounds).toBeGreaterThan(2);
  });

  test('tells more than fits one buffer', async () => {
    const device = new MemoryDevice({ sizeBytes: 100_000 * 512, blockSizeBytes: 512 });
    for (let block = 0; block < 100_000; block += 2) device.data[block * 512] = 1;
    const resources = testResources(new MemoryDirectory(device));
    const driver = new SessionDriver(resources);
    await driver.goWith(style, BOTH);
    device.recordsCalls = false;
    const { statuses } = await one(driver, status(0, device.sizeBytes));
    expect(statuses.get(STATE)).toHaveLength(100_000);
    await settled();
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test.each([
    ['of length 0', status(0, 0)],
    ['past the end', status(SIZE - 1, 2)],
    ['past 2^64', status(2n ** 64n - 1n, 512)],
    ['with DF', status(0, 512, NBD_CMD_FLAG_DF)],
  ])('%s is EINVAL', async (_, request) => {
    const { driver } = await open(style);
    expect(await one(driver, request)).toMatchObject({ error: NBD_EINVAL });
  });

  test('that fails is an error alone', async () => {
    const { driver, device } = await open(style);
    device.mapCold = true;
    device.readsWait = true;
    driver.feed(driver.encode(status(0, SIZE)));
    await settled();
    device.warm(new VolumeError('corrupt', 'checkpoint 7: bad leaf'));
    await settled();
    expect(driver.takeReplies()).toMatchObject([{ error: NBD_EIO, text: 'checkpoint 7: bad leaf', types: [0x8001] }]);
    device.failure = new VolumeError('closed', 'volume disk is closed');
    expect(await one(driver, status(0, SIZE))).toMatchObject({ error: NBD_ESHUTDOWN });
  });

  test('that is under way when the client goes is no reply', async () => {
    const { driver, device, resources } = await open(style);
    device.mapCold = true;
    device.readsWait = true;
    driver.feed(driver.encode(status(0, SIZE)));
    await settled();
    driver.disconnect();
    expect(driver.isReleased).toBe(false);
    device.readsWait = false;
    device.warm();
    await settled();
    expect(driver.isReleased).toBe(true);
    expect([resources.replyBudget.usedBytes, resources.pool.leasedBytes]).toEqual([0, 0]);
  });
});

describe('extended headers', () => {
  test('carry lengths beyond 32 bits', async () => {
    const device = new MemoryDevice();
    Object.defineProperty(device, 'sizeBytes', { value: 2 ** 45 });
    const driver = new SessionDriver(testResources(new MemoryDirectory(device)));
    await driver.goWith('extended', BOTH);
    for (const command of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE]) {
      expect(await one(driver, { command, offset: 4096, length: 2n ** 44n })).toMatchObject({ error: 0, types: [0] });
    }
    expect(device.calls.filter((call) => call.endsWith(`4096+${2 ** 44}`))).toHaveLength(3);
  });

  test.each([
    ['a TRIM', NBD_CMD_TRIM, NBD_EINVAL],
    ['a WRITE_ZEROES', NBD_CMD_WRITE_ZEROES, NBD_ENOSPC],
    ['a READ', NBD_CMD_READ, NBD_EINVAL],
    ['a CACHE', NBD_CMD_CACHE, NBD_EINVAL],
  ])('with %s of 2^64-1 bytes are refused', async (_, command, error) => {
    const { driver } = await open('extended');
    expect(await one(driver, { command, offset: 1, length: 2n ** 64n - 1n })).toMatchObject({ error });
  });

  test('echo the offset, whatever it is', async () => {
    const { driver } = await open('extended');
    expect(await one(driver, { command: NBD_CMD_FLUSH, offset: 0xfedcba9876543210n })).toMatchObject({ error: 0 });
    expect(await one(driver, { command: 99, offset: 2n ** 64n - 1n, length: 5 })).toMatchObject({ error: NBD_EINVAL });
  });

  test('take a WRITE without PAYLOAD_LEN as one with it', async () => {
    const { driver, device } = await open('extended');
    const payload = Buffer.alloc(5000, 7);
    const cookie = Buffer.from('abcdefgh');
    driver.reader.request(cookie, { command: NBD_CMD_WRITE, offset: 3, payload });
    driver.feed(extendedRequestBytes({ command: NBD_CMD_WRITE, cookie, offset: 3, payload }));
    await settled();
    expect(driver.takeReplies()).toMatchObject([{ error: 0 }]);
    expect(payload.equals(device.data.subarray(3, 5003))).toBe(true);
  });

  test.each([NBD_CMD_READ, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, 77])('with a payload of command %i are refused behind it', async (command) => {
    const { driver } = await open('extended');
    const [refused, next] = await driver.exchange({ command, offset: 0, payload: Buffer.alloc(100_000, 0x25) }, { command: NBD_CMD_FLUSH });
    expect(refused).toMatchObject({ error: NBD_EINVAL });
    expect(next).toMatchObject({ error: 0 });
  });

  test.each([NBD_CMD_WRITE, NBD_CMD_READ, NBD_CMD_BLOCK_STATUS])('with a payload of 65 MiB of command %i end the connection', async (command) => {
    const { driver } = await open('extended');
    driver.feed(extendedRequestBytes({ command, flags: NBD_CMD_FLAG_PAYLOAD_LEN, cookie: Buffer.alloc(8), length: 65 * 1024 * 1024 }));
    await settled();
    expect(driver.finished).toBe('broken');
  });

  test.each([
    ['a compact request', requestBytes({ command: NBD_CMD_FLUSH, cookie: Buffer.alloc(8), length: 0 })],
    ['garbage', Buffer.alloc(32, 0x21)],
  ])('end the connection at %s', async (_, bytes) => {
    const { driver } = await open('extended');
    driver.feed(Buffer.concat([bytes, Buffer.alloc(4)]));
    await settled();
    expect(driver.finished).toBe('broken');
  });

  test('end by DISC', async () => {
    const { driver } = await open('extended');
    driver.feed(extendedRequestBytes({ command: NBD_CMD_DISC, cookie: Buffer.alloc(8) }));
    await settled();
    expect(driver.finished).toBe('in order');
  });

  test.each([1, 7, 31, 33])('arrive in pieces of %i bytes', async (readBytesMax) => {
    const { driver, device } = await open('extended');
    driver.readBytesMax = readBytesMax;
    const payload = Buffer.alloc(10_000, 9);
    const replies = await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 0, payload },
      { command: NBD_CMD_BLOCK_STATUS, offset: 0, asks: { length: SIZE, ids: [STATE] } },
      { command: NBD_CMD_READ, offset: 0, length: 10_000 },
    );
    expect(replies.map(({ error }) => error)).toEqual([0, 0, 0]);
    expect(payload.equals(device.data.subarray(0, 10_000))).toBe(true);
  });
});

describe('a payload of BLOCK_STATUS', () => {
  test.each([
    [[ALLOCATION], ['256:3', '']],
    [[STATE], ['', '256:16']],
    [[STATE, ALLOCATION], ['256:3', '256:16']],
  ])('selects the contexts %j', async (ids, expected) => {
    const { driver } = await open('extended');
    const { statuses } = await one(driver, { command: NBD_CMD_BLOCK_STATUS, offset: 0, asks: { length: SIZE, ids } });
    expect([told(statuses, ALLOCATION), told(statuses, STATE)]).toEqual(expected);
  });

  test('heeds REQ_ONE', async () => {
    const { driver, device } = await open('extended');
    lay(device, ['HOT', 'EMPTY']);
    const { statuses } = await one(driver, { command: NBD_CMD_BLOCK_STATUS, flags: NBD_CMD_FLAG_REQ_ONE, asks: { length: SIZE, ids: [ALLOCATION] } });
    expect(told(statuses, ALLOCATION)).toBe('1:0');
  });

  test.each([
    ['an unknown id', { asks: { length: 512, ids: [3] } }],
    ['an id twice', { asks: { length: 512, ids: [1, 1] } }],
    ['too many ids', { asks: { length: 512, ids: Array.from({ length: 5000 }, (_, id) => id) } }],
    ['no id', { asks: { length: 512, ids: [] } }],
    ['a length of 0', { asks: { length: 0, ids: [1] } }],
    ['a length past the end', { asks: { length: SIZE + 1, ids: [1] } }],
    ['a length of 2^64-1', { asks: { length: 2n ** 64n - 1n, ids: [1] } }],
    ['half an id', { payload: Buffer.alloc(10) }],
    ['too few bytes', { payload: Buffer.alloc(4) }],
    ['no bytes', { payload: Buffer.alloc(0) }],
  ])('with %s is EINVAL, and the stream stays in sync', async (_, request) => {
    const { driver } = await open('extended');
    const [refused, next] = await driver.exchange({ command: NBD_CMD_BLOCK_STATUS, offset: 0, ...request }, { command: NBD_CMD_FLUSH });
    expect(refused).toMatchObject({ error: NBD_EINVAL });
    expect(next).toMatchObject({ error: 0 });
  });

  test('is refused where nothing was selected', async () => {
    const { driver } = await open('extended', []);
    expect(await one(driver, { command: NBD_CMD_BLOCK_STATUS, asks: { length: 512, ids: [1] } })).toMatchObject({ error: NBD_EINVAL });
  });
});

test('NO_HOLE reaches the device with extended headers', async () => {
  const { driver, device } = await open('extended');
  await one(driver, { command: NBD_CMD_WRITE_ZEROES, flags: NBD_CMD_FLAG_NO_HOLE, offset: 0, length: BLOCK });
  expect(device.calls[0]).toBe(`zeroNow provisioned 0+${BLOCK}`);
});
