/** Structured replies (NBD document, "Structured reply chunk message"), by the bytes that a session sends. */
import { describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { EXTENT } from '../../src/base/extent-list.ts';
import {
  NBD_CMD_CACHE,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_ESHUTDOWN,
  NBD_FLAG_SEND_DF,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_STRUCTURED_REPLY,
} from '../../src/protocol/constants.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { decodeExportInfos, infoRequestBytes } from '../support/nbd-bytes.ts';
import type { ReplyStyle } from '../support/reply-reader.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

const KIB = 1024;
const SIZE = 1024 * KIB;
const BLOCK = 4 * KIB;

const styles: { style: ReplyStyle }[] = [{ style: 'structured' }, { style: 'extended' }];

async function open(style: ReplyStyle, device = new MemoryDevice(), settings = {}) {
  const directory = new MemoryDirectory(device);
  const resources = testResources(directory, settings);
  const driver = new SessionDriver(resources);
  await driver.goWith(style);
  return { driver, device, resources };
}

/** Bytes of which none is zero. */
const bytes = (length: number, seed = 1): Buffer => Buffer.from(Array.from({ length }, (_, index) => 1 + ((index * 7 + seed * 13) % 255)));

describe.each(styles)('READ with $style replies', ({ style }) => {
  test.each([1, 511, BLOCK, 32 * KIB, 200 * KIB, 600 * KIB])('of %i bytes of data is one chunk, hot, cold or lent', async (length) => {
    const { driver, device, resources } = await open(style);
    device.data.set(bytes(SIZE));
    const offset = 3;
    for (const way of ['hot', 'lent', 'cold']) {
      device.lends = way === 'lent';
      device.cold = way === 'cold';
      const [reply] = await driver.exchange({ command: NBD_CMD_READ, offset, length });
      expect(reply.data.equals(device.data.subarray(offset, offset + length)), way).toBe(true);
      expect(reply.pieces).toEqual([{ kind: 'data', offset, length }]);
    }
    expect(device.onLoan).toBe(0);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('of what is not stored is a hole, and reads nothing', async () => {
    const { driver, device } = await open(style);
    const [reply] = await driver.exchange({ command: NBD_CMD_READ, offset: 100, length: 500 * KIB });
    expect(reply.pieces).toEqual([{ kind: 'hole', offset: 100, length: 500 * KIB }]);
    expect(device.calls).toEqual([`extentsNow 100+${500 * KIB}`]);
  });

  test('of zeroes that keep their space is a hole, too', async () => {
    const { driver, device } = await open(style);
    device.kinds.set(0, EXTENT.PROVISIONED);
    const [reply] = await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 2 * BLOCK });
    expect(reply.pieces).toEqual([{ kind: 'hole', offset: 0, length: 2 * BLOCK }]);
  });

  test.each(['hot', 'lent', 'cold', 'cold map'])('of data and holes tells them apart, %s', async (way) => {
    const { driver, device, resources } = await open(style);
    const parts = [
      { start: 1, count: 1 },
      { start: 4, count: 30 },
      { start: 40, count: 10 },
    ];
    for (const { start, count } of parts) device.data.set(bytes(count * BLOCK, start), start * BLOCK);
    device.lends = way === 'lent';
    device.cold = way.startsWith('cold');
    device.mapCold = way === 'cold map';
    const [reply] = await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 50 * BLOCK - 7 });
    expect(reply.data.equals(device.data.subarray(0, 50 * BLOCK - 7))).toBe(true);
    expect(reply.pieces.map(({ kind, offset }) => [kind, offset / BLOCK])).toEqual([
      ['hole', 0],
      ['data', 1],
      ['hole', 2],
      ['data', 4],
      ['hole', 34],
      ['data', 40],
    ]);
    expect(device.onLoan).toBe(0);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('of more pieces than a reply takes ends in data', async () => {
    const { driver, device } = await open(style);
    for (let block = 0; block < 200; block += 2) device.data[block * BLOCK] = 1;
    for (const cold of [false, true]) {
      device.cold = cold;
      const [reply] = await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 200 * BLOCK });
      expect(reply.data.equals(device.data.subarray(0, 200 * BLOCK))).toBe(true);
      expect(reply.pieces).toHaveLength(64);
      expect(reply.pieces.at(-1)).toEqual({ kind: 'data', offset: 63 * BLOCK, length: 137 * BLOCK });
    }
  });

  test('with DF is one chunk: of data where there is any, of a hole where there is none', async () => {
    const { driver, device } = await open(style);
    device.data.set(bytes(BLOCK), BLOCK);
    for (const cold of [false, true]) {
      device.cold = cold;
      const [mixed, empty] = await driver.exchange(
        { command: NBD_CMD_READ, flags: NBD_CMD_FLAG_DF, offset: 0, length: 100 * KIB },
        { command: NBD_CMD_READ, flags: NBD_CMD_FLAG_DF | NBD_CMD_FLAG_FUA, offset: 2 * BLOCK, length: 100 * KIB },
      ).then((replies) => replies.toSorted((a, b) => a.cookie.localeCompare(b.cookie)));
      expect(mixed.pieces).toEqual([{ kind: 'data', offset: 0, length: 100 * KIB }]);
      expect(mixed.data.equals(device.data.subarray(0, 100 * KIB))).toBe(true);
      expect(empty.pieces).toEqual([{ kind: 'hole', offset: 2 * BLOCK, length: 100 * KIB }]);
    }
  });

  test('that fails has an error with its text, and the place where it is known', async () => {
    const { driver, device, resources } = await open(style);
    device.data.set(bytes(SIZE));
    device.failure = new VolumeError('corrupt', 'chunk 000041: größe', { context: { blockNumber: 3 } });
    const ask = async (offset: number, length: number) => (await driver.exchange({ command: NBD_CMD_READ, offset, length }))[0];
    expect(await ask(0, 8 * BLOCK)).toMatchObject({ error: NBD_EIO, text: 'chunk 000041: größe', errorOffset: 3 * BLOCK, pieces: [] });
    expect(await ask(3 * BLOCK + 5, 100)).toMatchObject({ errorOffset: 3 * BLOCK + 5 });
    expect(await ask(4 * BLOCK, 100)).toMatchObject({ error: NBD_EIO, errorOffset: null });
    device.failure = null;
    device.cold = true;
    device.readsWait = true;
    driver.feed(Buffer.concat([4096, 300_000].map((length) => driver.encode({ command: NBD_CMD_READ, offset: 0, length }))));
    await settled();
    device.warm(new VolumeError('io-error', `no chunk ${'x'.repeat(5000)}`));
    await settled();
    const replies = driver.takeReplies();
    expect(replies.map(({ error, text }) => [error, text?.length])).toEqual([
      [NBD_EIO, 4096],
      [NBD_EIO, 4096],
    ]);
    expect(resources.pool.leasedBytes).toBe(0);
  });

  test('of a FLUSH tell no place, for it asks about none', async () => {
    const { driver, device } = await open(style);
    device.completionError = new VolumeError('corrupt', 'chunk 000041', { context: { blockNumber: 3 } });
    const [reply] = await driver.exchange({ command: NBD_CMD_FLUSH, offset: 3 * BLOCK + 5 });
    expect(reply).toMatchObject({ error: NBD_EIO, errorOffset: null });
  });

  test('waits for room in the replies, and carries no byte that is not of the volume', async () => {
    const { driver, device } = await open(style, new MemoryDevice(), { maxReplyBytes: 300 * KIB });
    device.data.fill(1, 0, 100 * BLOCK);
    device.data.fill(2, 110 * BLOCK, 200 * BLOCK);
    const replies = await driver.exchange(...Array.from({ length: 20 }, () => ({ command: NBD_CMD_READ, offset: 0, length: 210 * BLOCK })));
    expect(replies).toHaveLength(20);
    for (const { data } of replies) expect(data.equals(device.data.subarray(0, 210 * BLOCK))).toBe(true);
  });
});

describe.each(styles)('errors with $style replies', ({ style }) => {
  test.each([
    ['a READ past the end', { command: NBD_CMD_READ, offset: SIZE - 1, length: 2 }, NBD_EINVAL, /past the end/],
    ['a READ of 2^64 and more', { command: NBD_CMD_READ, offset: 2n ** 64n - 1n, length: 512 }, NBD_EINVAL, /past the end/],
    ['an empty READ', { command: NBD_CMD_READ, offset: 0, length: 0 }, NBD_EINVAL, /NBD_CMD_READ of 0 bytes/],
    ['a WRITE past the end', { command: NBD_CMD_WRITE, offset: SIZE - 1, payload: bytes(512) }, NBD_ENOSPC, /past the end/],
    ['a WRITE with DF', { command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_DF, offset: 0, payload: bytes(512) }, NBD_EINVAL, /flags 0x/],
    ['a TRIM past the end', { command: NBD_CMD_TRIM, offset: SIZE, length: 1 }, NBD_EINVAL, /NBD_CMD_TRIM/],
    ['an unknown command', { command: 77, offset: 0, length: 512 }, NBD_EINVAL, /command 77/],
    ['BLOCK_STATUS without a context', { command: 7, offset: 0, length: 512 }, NBD_EINVAL, /NBD_CMD_BLOCK_STATUS/],
  ])('%s is refused in words, and the stream stays in sync', async (_, request, error, text) => {
    const { driver, device } = await open(style);
    device.data.set(bytes(16));
    driver.reader.contexts = [];
    const [refused, next] = await driver.exchange(request, { command: NBD_CMD_READ, offset: 0, length: 16 });
    expect(refused).toMatchObject({ error });
    expect(refused.text).toMatch(text);
    expect(next.data.equals(bytes(16))).toBe(true);
  });

  test('tell a read-only export and a shutdown', async () => {
    const { driver } = await open(style, new MemoryDevice({ readOnly: true }));
    const [refused] = await driver.exchange({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(512) });
    expect(refused).toMatchObject({ error: NBD_EPERM, text: 'NBD_CMD_WRITE: the export is read-only' });
    driver.session.shutdown();
    const [late] = await driver.exchange({ command: NBD_CMD_READ, offset: 0, length: 512 });
    expect(late).toMatchObject({ error: NBD_ESHUTDOWN, text: 'the server is shutting down' });
  });

  test('of the device come with its words', async () => {
    const { driver, device } = await open(style);
    device.completionError = new VolumeError('no-space', 'the disk is full');
    for (const request of [
      { command: NBD_CMD_WRITE, offset: 0, payload: bytes(512) },
      { command: NBD_CMD_FLUSH },
      { command: NBD_CMD_WRITE_ZEROES, offset: 0, length: BLOCK },
    ]) {
      const [reply] = await driver.exchange(request);
      expect(reply).toMatchObject({ error: NBD_ENOSPC, text: 'the disk is full', types: [0x8001] });
    }
  });
});

test.each(styles)('other commands end well with $style replies', async ({ style }) => {
  const { driver, device } = await open(style);
  device.partialBlocks = true;
  const replies = await driver.exchange(
    { command: NBD_CMD_WRITE, offset: 0, payload: bytes(BLOCK) },
    { command: NBD_CMD_WRITE, offset: 5, payload: bytes(300_000) },
    { command: NBD_CMD_WRITE_ZEROES, offset: 0, length: 100 },
    { command: NBD_CMD_TRIM, offset: 0, length: BLOCK },
    { command: NBD_CMD_CACHE, offset: 0, length: BLOCK },
    { command: NBD_CMD_FLUSH },
  );
  expect(replies.map(({ error, types }) => [error, types])).toEqual(replies.map(() => [0, style === 'extended' ? [0] : []]));
  expect(replies).toHaveLength(6);
});

describe('the flag SEND_DF', () => {
  test.each(['disk', ''])('of export "%s" is there if and only if structured replies are', async (name) => {
    const driver = new SessionDriver(testResources(new MemoryDirectory(new MemoryDevice())));
    driver.greet();
    const flags = async (option: number): Promise<number> => {
      const replies = await driver.option(option, infoRequestBytes(name));
      return decodeExportInfos(replies.slice(0, -1)).transmissionFlags;
    };
    expect((await flags(NBD_OPT_INFO)) & NBD_FLAG_SEND_DF).toBe(0);
    await driver.option(NBD_OPT_STRUCTURED_REPLY);
    expect((await flags(NBD_OPT_INFO)) & NBD_FLAG_SEND_DF).toBe(NBD_FLAG_SEND_DF);
    expect((await flags(NBD_OPT_GO)) & NBD_FLAG_SEND_DF).toBe(NBD_FLAG_SEND_DF);
  });
});

describe.each(styles)('while the server shuts down, with $style replies', ({ style }) => {
  test('later requests are refused, earlier ones finish, then the session ends', async () => {
    const { driver, device } = await open(style);
    device.settleTime = 'by hand';
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) }));
    driver.session.shutdown();
    const late = await driver.exchange(
      { command: NBD_CMD_READ, offset: 0, length: 512 },
      { command: NBD_CMD_WRITE, offset: 0, payload: bytes(512) },
      { command: NBD_CMD_FLUSH },
    );
    expect(late.map(({ error }) => error)).toEqual([NBD_ESHUTDOWN, NBD_ESHUTDOWN, NBD_ESHUTDOWN]);
    driver.session.leaveIfIdle();
    expect(driver.finished).toBe('no');
    device.settleAll();
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0]);
    expect(driver.finished).toBe('in order');
    expect(device.calls).toEqual(['writeNow 0+4096', 'submit']);
  });

  test('an idle session ends when it is told to', async () => {
    const { driver } = await open(style);
    driver.session.shutdown();
    await settled();
    expect(driver.finished).toBe('no');
    driver.session.leaveIfIdle();
    expect(driver.finished).toBe('in order');
    expect(driver.isReleased).toBe(true);
  });

  test('a client in the middle of a payload is let finish, and refused', async () => {
    const { driver } = await open(style);
    const request = driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) });
    driver.feed(request.subarray(0, 1000));
    driver.session.shutdown();
    driver.session.leaveIfIdle();
    expect(driver.finished).toBe('no');
    driver.feed(request.subarray(1000));
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([NBD_ESHUTDOWN]);
    expect(driver.finished).toBe('in order');
  });
});
