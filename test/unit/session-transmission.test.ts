import { describe, expect, test } from 'vitest';
import { type ErrorCode, VolumeError } from '../../src/base/errors.ts';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_RESIZE,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_EPERM,
  NBD_ESHUTDOWN,
} from '../../src/protocol/constants.ts';
import { nbdErrorOf } from '../../src/session/errno.ts';
import type { SessionResources } from '../../src/session/host.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, settled, testResources, type TestRequest } from '../support/session-driver.ts';

const SIZE = 1024 * 1024;
const MIB = 1024 * 1024;

interface Opened {
  readonly driver: SessionDriver;
  readonly device: MemoryDevice;
  readonly directory: MemoryDirectory;
  readonly resources: SessionResources;
}

async function open(device = new MemoryDevice(), settings = {}): Promise<Opened> {
  const directory = new MemoryDirectory(device);
  const resources = testResources(directory, settings);
  const driver = new SessionDriver(resources);
  await driver.go(device.name);
  return { driver, device, directory, resources };
}

const bytes = (length: number, seed = 1): Buffer => Buffer.from(Array.from({ length }, (_, index) => (index * 7 + seed * 13) & 0xff));
const noSpace = new VolumeError('no-space', 'the disk is full');

describe('a turn', () => {
  test('answers everything that arrived in one read with one submit and one send', async () => {
    const { driver, device } = await open();
    const replies = await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096, 1) },
      { command: NBD_CMD_WRITE, offset: 4096, payload: bytes(4096, 2) },
      { command: NBD_CMD_READ, offset: 0, length: 8192 },
      { command: NBD_CMD_FLUSH },
    );
    expect(replies.map(({ error }) => error)).toEqual([0, 0, 0, 0]);
    expect(replies.find(({ data }) => data.length > 0)?.data.equals(Buffer.concat([bytes(4096, 1), bytes(4096, 2)]))).toBe(true);
    expect(device.calls).toEqual(['writeNow 0+4096', 'writeNow 4096+4096', 'readNow 0+8192', 'flush', 'submit']);
    expect(driver.sendCount).toBe(1);
  });

  test('of reads alone needs no submit', async () => {
    const { driver, device } = await open();
    await driver.read(0, 4096);
    expect(device.calls).toEqual(['readNow 0+4096']);
  });

  test('may end requests before their call returns', async () => {
    const { driver, device } = await open();
    device.settleTime = 'at once';
    const replies = await driver.exchange({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(512) }, { command: NBD_CMD_FLUSH });
    expect(replies).toHaveLength(2);
    expect(driver.sendCount).toBe(1);
  });

  test('gathers what ends outside of it', async () => {
    const { driver, device } = await open();
    device.settleTime = 'by hand';
    await driver.exchange(...[0, 1, 2, 3].map((index) => ({ command: NBD_CMD_WRITE, offset: index * 4096, payload: bytes(4096) })));
    expect(driver.sendCount).toBe(0);
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(4);
    expect(driver.sendCount).toBe(1);
  });
});

describe('READ', () => {
  test.each([1, 511, 4096, 4097, 65536, 256 * 1024 - 17, 256 * 1024, 300_000, SIZE])('of %i bytes returns them, hot or cold', async (length) => {
    const { driver, device } = await open();
    device.data.set(bytes(SIZE));
    const offset = Math.min(3, SIZE - length);
    const expected = Buffer.from(device.data.subarray(offset, offset + length));
    expect((await driver.read(offset, length)).equals(expected)).toBe(true);
    device.cold = true;
    expect((await driver.read(offset, length)).equals(expected)).toBe(true);
  });

  test('of many ranges, hot and cold, answers each with its own bytes', async () => {
    const { driver, device } = await open();
    device.data.set(bytes(SIZE));
    device.readsWait = true;
    const sizes = [100, 40_000, 4096, 200_000, 16, 250_000, 4096];
    device.cold = true;
    driver.feed(Buffer.concat(sizes.map((length, index) => driver.encode({ command: NBD_CMD_READ, offset: index * 1000, length }))));
    device.cold = false;
    driver.feed(Buffer.concat(sizes.map((length, index) => driver.encode({ command: NBD_CMD_READ, offset: index * 2000, length }))));
    await settled();
    expect(driver.outstandingCount).toBe(14);
    const hot = driver.takeReplies();
    device.warm();
    await settled();
    const cold = driver.takeReplies();
    for (const [replies, step] of [
      [hot, 2000],
      [cold, 1000],
    ] as const) {
      expect(replies).toHaveLength(7);
      for (const { cookie, data } of replies) {
        const index = (Buffer.from(cookie, 'hex').readUInt32BE(2) - 1) % 7;
        expect(data.equals(device.data.subarray(index * step, index * step + sizes[index]))).toBe(true);
      }
    }
  });

  test('that fails carries no data', async () => {
    const { driver, device } = await open();
    device.failure = new VolumeError('corrupt', 'chunk 000041: checksum 9f3c21aa');
    expect(await driver.errorOf({ command: NBD_CMD_READ, offset: 0, length: 4096 })).toBe(NBD_EIO);
    expect(driver.events.at(-1)).toMatchObject({ kind: 'request-failed', command: NBD_CMD_READ, lengthBytes: 4096, error: { code: 'corrupt' } });
  });

  test.each([4096, 500_000])('of %i cold bytes that fails carries no data', async (length) => {
    const { driver, device, resources } = await open();
    device.cold = true;
    device.readsWait = true;
    driver.feed(driver.encode({ command: NBD_CMD_READ, offset: 0, length }));
    await settled();
    device.warm(new VolumeError('io-error', 'no chunk'));
    await settled();
    expect(resources.pool.leasedBytes).toBe(0);
    expect(driver.takeReplies().map(({ error, data }) => [error, data.length])).toEqual([[NBD_EIO, 0]]);
  });
});

describe('WRITE', () => {
  test.each([1, 4096, 65536, 262_144, 300_000, SIZE])('of %i bytes is applied whole', async (length) => {
    const { driver, device } = await open();
    const payload = bytes(length, 5);
    const offset = Math.min(5, SIZE - length);
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset, payload })).toBe(0);
    expect(payload.equals(device.data.subarray(offset, offset + length))).toBe(true);
    expect(device.data.subarray(0, offset).every((byte) => byte === 0)).toBe(true);
    expect(device.data.subarray(offset + length).every((byte) => byte === 0)).toBe(true);
  });

  test('passes FUA on', async () => {
    const { driver, device } = await open();
    await driver.exchange({ command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_FUA, offset: 0, payload: bytes(16) });
    expect(device.calls[0]).toBe('writeNow 0+16 fua');
  });

  test.each([100, 5000, 300_000])('of %i bytes that cuts blocks is written from memory of its own', async (length) => {
    const { driver, device } = await open();
    device.partialBlocks = true;
    const [first, second] = [bytes(length, 1), bytes(length, 2)];
    const replies = await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 10, payload: first },
      { command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_FUA, offset: 400_010, payload: second },
    );
    expect(replies.map(({ error }) => error)).toEqual([0, 0]);
    expect(device.calls.filter((call) => call.startsWith('write '))).toEqual([`write 10+${length}`, `write 400010+${length} fua`]);
    expect(first.equals(device.data.subarray(10, 10 + length))).toBe(true);
    expect(second.equals(device.data.subarray(400_010, 400_010 + length))).toBe(true);
  });

  test('that fails later is answered with the error', async () => {
    const { driver, device } = await open();
    device.completionError = noSpace;
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) })).toBe(NBD_ENOSPC);
    device.partialBlocks = true;
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 1, payload: bytes(4096) })).toBe(NBD_ENOSPC);
    expect(driver.events.map(({ kind }) => kind)).toEqual(['negotiated', 'request-failed', 'request-failed']);
  });

  test('that is refused at once is answered with the error, and the next one is not', async () => {
    const { driver, device } = await open();
    device.failure = noSpace;
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) })).toBe(NBD_ENOSPC);
    device.failure = null;
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) })).toBe(0);
  });
});

describe('FLUSH, TRIM, WRITE_ZEROES, CACHE', () => {
  test('reach the device with their flags', async () => {
    const { driver, device } = await open();
    const fua = NBD_CMD_FLAG_FUA;
    const replies = await driver.exchange(
      { command: NBD_CMD_FLUSH },
      { command: NBD_CMD_TRIM, offset: 4096, length: 8192 },
      { command: NBD_CMD_TRIM, flags: fua, offset: 0, length: 4096 },
      { command: NBD_CMD_WRITE_ZEROES, offset: 1, length: 5000 },
      { command: NBD_CMD_WRITE_ZEROES, flags: NBD_CMD_FLAG_NO_HOLE | fua, offset: 2, length: 5000 },
      { command: NBD_CMD_WRITE_ZEROES, flags: NBD_CMD_FLAG_FAST_ZERO, offset: 3, length: 5000 },
      { command: NBD_CMD_CACHE, offset: 4, length: 5000 },
    );
    expect(replies.map(({ error }) => error)).toEqual([0, 0, 0, 0, 0, 0, 0]);
    expect(device.calls).toEqual([
      'flush',
      'trimNow 4096+8192',
      'trimNow 0+4096 fua',
      'zeroNow 1+5000',
      'zeroNow provisioned 2+5000 fua',
      'zeroNow 3+5000',
      'cache 4+5000',
      'submit',
    ]);
  });

  test('zeroes that cut blocks are zeroed in the way that waits', async () => {
    const { driver, device } = await open();
    device.data.fill(7);
    device.partialBlocks = true;
    const flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_FAST_ZERO;
    expect(await driver.errorOf({ command: NBD_CMD_WRITE_ZEROES, flags, offset: 5, length: 100 })).toBe(0);
    expect(device.calls).toContain('zero provisioned 5+100 fua');
    expect([...device.data.subarray(4, 106)]).toEqual([7, ...Array.from({ length: 100 }, () => 0), 7]);
  });

  test('the range of a FLUSH means nothing', async () => {
    const { driver } = await open();
    expect(await driver.errorOf({ command: NBD_CMD_FLUSH, offset: 2n ** 64n - 1n, length: 0xffffffff })).toBe(0);
  });

  test('a flush that fails is EIO', async () => {
    const { driver, device } = await open();
    device.completionError = new VolumeError('failed', 'fdatasync failed');
    expect(await driver.errorOf({ command: NBD_CMD_FLUSH })).toBe(NBD_EIO);
    device.completionError = null;
    device.failure = new VolumeError('failed', 'fdatasync failed');
    expect(await driver.errorOf({ command: NBD_CMD_FLUSH })).toBe(NBD_EIO);
  });

  test('ranges of 4 GiB are allowed where there is no payload', async () => {
    const { driver, device } = await open();
    const length = 0xfffffe00;
    Object.defineProperty(device, 'sizeBytes', { value: 2 ** 40 });
    for (const command of [NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE]) {
      expect(await driver.errorOf({ command, offset: 4096, length })).toBe(0);
    }
  });
});

describe('FUA is accepted on every command', () => {
  test.each([NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES])('command %i', async (command) => {
    const { driver } = await open();
    const payload = command === NBD_CMD_WRITE ? { payload: bytes(512) } : { length: 512 };
    expect(await driver.errorOf({ command, flags: NBD_CMD_FLAG_FUA, offset: 0, ...payload })).toBe(0);
  });
});

const BEYOND = [SIZE, SIZE - 511, 2 ** 53, 2n ** 63n, 2n ** 64n - 1n] as const;

describe('a request is refused', () => {
  test.each<[string, TestRequest, number]>([
    ['for an unknown command', { command: 9, length: 512 }, NBD_EINVAL],
    ['for a command of structured replies', { command: NBD_CMD_BLOCK_STATUS, length: 512 }, NBD_EINVAL],
    ['for a command that was withdrawn', { command: NBD_CMD_RESIZE, length: 512 }, NBD_EINVAL],
    ['for the last command there could be', { command: 0xffff, length: 512 }, NBD_EINVAL],
    ['for a READ with DF', { command: NBD_CMD_READ, flags: NBD_CMD_FLAG_DF, length: 512 }, NBD_EINVAL],
    ['for a READ with FAST_ZERO', { command: NBD_CMD_READ, flags: NBD_CMD_FLAG_FAST_ZERO, length: 512 }, NBD_EINVAL],
    ['for a WRITE with NO_HOLE', { command: NBD_CMD_WRITE, flags: NBD_CMD_FLAG_NO_HOLE, payload: bytes(512) }, NBD_EINVAL],
    ['for a TRIM with NO_HOLE', { command: NBD_CMD_TRIM, flags: NBD_CMD_FLAG_NO_HOLE, length: 512 }, NBD_EINVAL],
    ['for a FLUSH with REQ_ONE', { command: NBD_CMD_FLUSH, flags: NBD_CMD_FLAG_REQ_ONE }, NBD_EINVAL],
    ['for a CACHE with an unknown flag', { command: NBD_CMD_CACHE, flags: 0x8000, length: 512 }, NBD_EINVAL],
    ['for WRITE_ZEROES with an unknown flag', { command: NBD_CMD_WRITE_ZEROES, flags: 0x40, length: 512 }, NBD_EINVAL],
    ['for an empty READ', { command: NBD_CMD_READ, length: 0 }, NBD_EINVAL],
    ['for an empty WRITE', { command: NBD_CMD_WRITE, payload: bytes(0) }, NBD_EINVAL],
    ['for an empty TRIM', { command: NBD_CMD_TRIM, length: 0 }, NBD_EINVAL],
    ['for an empty WRITE_ZEROES', { command: NBD_CMD_WRITE_ZEROES, length: 0 }, NBD_EINVAL],
    ['for a READ that is too long', { command: NBD_CMD_READ, length: 32 * MIB + 1 }, NBD_EINVAL],
    ...BEYOND.flatMap((offset): [string, TestRequest, number][] => [
      [`for a READ at ${offset}`, { command: NBD_CMD_READ, offset, length: 512 }, NBD_EINVAL],
      [`for a WRITE at ${offset}`, { command: NBD_CMD_WRITE, offset, payload: bytes(512) }, NBD_ENOSPC],
      [`for a TRIM at ${offset}`, { command: NBD_CMD_TRIM, offset, length: 512 }, NBD_EINVAL],
      [`for WRITE_ZEROES at ${offset}`, { command: NBD_CMD_WRITE_ZEROES, offset, length: 512 }, NBD_ENOSPC],
      [`for a CACHE at ${offset}`, { command: NBD_CMD_CACHE, offset, length: 512 }, NBD_EINVAL],
    ]),
  ])('%s', async (_, request, error) => {
    const { driver, device } = await open();
    const replies = await driver.exchange(request, { command: NBD_CMD_READ, offset: SIZE - 512, length: 512 });
    expect(replies.map((reply) => reply.error)).toEqual([error, 0]); // and the stream is in sync behind it
    expect(device.calls).toEqual([`readNow ${SIZE - 512}+512`]);
  });

  test.each([NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES])('by a read-only volume (command %i)', async (command) => {
    const { driver } = await open(new MemoryDevice({ readOnly: true }));
    const payload = command === NBD_CMD_WRITE ? { payload: bytes(512) } : { length: 512 };
    const replies = await driver.exchange({ command, offset: 0, ...payload }, { command: NBD_CMD_FLUSH }, { command: NBD_CMD_READ, length: 1 });
    expect(replies.map(({ error }) => error).sort((a, b) => a - b)).toEqual([0, 0, NBD_EPERM]);
  });

});

describe('a payload that is too long', () => {
  test('is skipped, then refused', async () => {
    const { driver, device } = await open(new MemoryDevice(), { maxRequestBytes: 4096 });
    const request = driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(100_000) });
    driver.feed(request.subarray(0, 50_000));
    await settled();
    expect(driver.takeReplies()).toHaveLength(0);
    driver.feed(request.subarray(50_000));
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([NBD_EINVAL]);
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) })).toBe(0);
    expect(device.calls).toEqual(['writeNow 0+4096', 'submit']);
  });

  test('takes no memory', async () => {
    const directory = new MemoryDirectory(new MemoryDevice());
    const resources = testResources(directory);
    const driver = new SessionDriver(resources);
    await driver.go();
    const request = driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(33 * MIB) });
    for (let at = 0; at < 33 * MIB; at += MIB) {
      driver.feed(request.subarray(at, at + MIB));
      expect(resources.pool.leasedBytes).toBe(0);
    }
    driver.feed(request.subarray(33 * MIB));
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([NBD_EINVAL]);
  });

  test('beyond every limit ends the connection', async () => {
    const { driver } = await open();
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, length: 64 * MIB + 1 }));
    expect(driver.finished).toBe('broken');
    expect(driver.events.at(-1)).toMatchObject({ kind: 'protocol-error' });
  });
});

describe('goodbye', () => {
  test('a request without the magic number ends the connection, after what came before it', async () => {
    const { driver, device } = await open();
    const write = driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) });
    driver.feed(Buffer.concat([write, requestBytes({ command: NBD_CMD_READ, cookie: Buffer.alloc(8), magic: 0x25609514 })]));
    expect(driver.finished).toBe('broken');
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0]);
    expect(bytes(4096).equals(device.data.subarray(0, 4096))).toBe(true);
    expect(driver.isReleased).toBe(true);
  });

  test('DISC, whatever its fields say, waits for what is under way', async () => {
    const { driver, device, directory } = await open();
    device.settleTime = 'by hand';
    device.cold = true;
    device.readsWait = true;
    driver.feed(
      Buffer.concat([
        driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) }),
        driver.encode({ command: NBD_CMD_READ, offset: 0, length: 4096 }),
        requestBytes({ command: NBD_CMD_DISC, flags: 0xffff, cookie: Buffer.alloc(8, 1), offset: 2n ** 64n - 1n, length: 0xffffffff }),
        Buffer.from('whatever comes behind it'),
      ]),
    );
    await settled();
    expect(driver.finished).toBe('no');
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
    expect(driver.finished).toBe('no');
    device.warm();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
    expect(driver.finished).toBe('in order');
    expect(driver.isReleased).toBe(true);
    expect(directory.holderCount('disk')).toBe(0);
  });

  test('the end of the stream lets all whole requests be answered', async () => {
    const { driver, device } = await open();
    device.settleTime = 'by hand';
    const half = driver.encode({ command: NBD_CMD_WRITE, offset: 8192, payload: bytes(4096) }).subarray(0, 2000);
    driver.feed(Buffer.concat([driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) }), half]));
    driver.session.inputEnded();
    await settled();
    expect(driver.finished).toBe('no');
    device.settleAll();
    await settled();
    expect(driver.takeReplies()).toHaveLength(1);
    expect(driver.finished).toBe('in order');
    expect(device.calls).toEqual(['writeNow 0+4096', 'submit']); // the half one never happened
  });

  test('a lost connection releases the volume when the last request has ended', async () => {
    const { driver, device, directory } = await open();
    device.settleTime = 'by hand';
    device.cold = true;
    device.readsWait = true;
    device.partialBlocks = true;
    await driver.exchange(
      { command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) },
      { command: NBD_CMD_WRITE, offset: 1, payload: bytes(4096) },
      { command: NBD_CMD_READ, offset: 0, length: 300_000 },
      { command: NBD_CMD_FLUSH },
    );
    driver.takeReplies();
    driver.disconnect();
    await settled();
    expect(directory.holderCount('disk')).toBe(1);
    device.warm();
    await settled();
    expect(driver.isReleased).toBe(false);
    device.settleAll();
    await settled();
    expect(driver.isReleased).toBe(true);
    expect(directory.holderCount('disk')).toBe(0);
    expect(driver.takeOutput()).toHaveLength(0);
  });
});

describe('while the server shuts down, a client of simple replies', () => {
  test('is answered what is under way, and told nothing of what comes later: for the kernel an error is a failed disk', async () => {
    const { driver, device } = await open();
    device.settleTime = 'by hand';
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) }));
    driver.session.shutdown();
    driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 8192, payload: bytes(512) }));
    driver.session.leaveIfIdle();
    await settled();
    expect(driver.takeReplies()).toEqual([]);
    expect(driver.finished).toBe('no');
    device.settleAll();
    await settled();
    expect(driver.takeReplies().map(({ error }) => error)).toEqual([0]);
    expect(driver.finished).toBe('in order');
    expect(device.calls).toEqual(['writeNow 0+4096', 'submit']);
  });

  test('is left at once if nothing is under way, also in the middle of a payload, of which nothing is written', async () => {
    for (const sent of [0, 20, 1000]) {
      const { driver, device, resources } = await open();
      driver.feed(driver.encode({ command: NBD_CMD_WRITE, offset: 0, payload: bytes(4096) }).subarray(0, sent));
      driver.session.shutdown();
      expect(driver.finished, `${sent} bytes`).toBe('in order');
      expect(driver.isReleased).toBe(true);
      expect(device.calls).toEqual([]);
      expect(resources.pool.leasedBytes).toBe(0);
    }
  });
});

test.each<[ErrorCode, number]>([
  ['invalid-argument', NBD_EINVAL],
  ['out-of-range', NBD_EINVAL],
  ['not-found', NBD_EIO],
  ['already-exists', NBD_EIO],
  ['in-use', NBD_EIO],
  ['read-only', NBD_EPERM],
  ['no-space', NBD_ENOSPC],
  ['io-error', NBD_EIO],
  ['corrupt', NBD_EIO],
  ['failed', NBD_EIO],
  ['closed', NBD_ESHUTDOWN],
  ['limit', NBD_EIO],
  ['unsupported', NBD_EINVAL],
])('the error %s of the engine is %i on the wire', (code, error) => {
  expect(nbdErrorOf(code)).toBe(error);
});
