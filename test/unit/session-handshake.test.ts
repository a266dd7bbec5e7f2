import { describe, expect, test } from 'vitest';
import { deferred } from '../../src/base/async.ts';
import { VolumeError } from '../../src/base/errors.ts';
import {
  NBD_CMD_READ,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_PLATFORM,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_SERVER,
} from '../../src/protocol/constants.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { clientFlagsBytes, decodeExportInfos, infoRequestBytes, optionBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, settled, TEST_SETTINGS, testResources } from '../support/session-driver.ts';

const ALL_INFOS = [NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE];
/** HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN, CACHE, FAST_ZERO. */
const WRITABLE_FLAGS = 0x0d6d;
/** HAS_FLAGS, READ_ONLY, FLUSH, FUA, CAN_MULTI_CONN, CACHE. */
const READ_ONLY_FLAGS = 0x050f;

function start(directory: MemoryDirectory, settings = {}): SessionDriver {
  return new SessionDriver(testResources(directory, settings));
}

function greeted(directory: MemoryDirectory, settings = {}): SessionDriver {
  const driver = start(directory, settings);
  driver.greet();
  return driver;
}

const oneDisk = (): MemoryDirectory => new MemoryDirectory(new MemoryDevice({ name: 'disk', sizeBytes: 1024 * 1024, description: 'for tests' }));
const messages = (driver: SessionDriver): string[] => driver.events.map((event) => ('message' in event ? event.message : event.kind));

describe('client flags', () => {
  test.each([0x4, 0x80000000, 0xffffffff])('with the unknown bits of 0x%s end the connection', (flags) => {
    const driver = start(oneDisk());
    driver.greet(flags);
    expect(driver.finished).toBe('broken');
    expect(driver.isReleased).toBe(true);
    expect(messages(driver)[0]).toMatch(/^unknown client flags 0x/);
  });

  test('without fixed newstyle allow EXPORT_NAME', async () => {
    const driver = start(oneDisk());
    driver.greet(0);
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    await settled();
    expect(driver.takeOutput()).toHaveLength(134);
    expect(driver.finished).toBe('no');
  });

  test('without fixed newstyle allow nothing else', () => {
    const driver = start(oneDisk());
    driver.greet(0);
    driver.feed(optionBytes(NBD_OPT_LIST));
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
  });
});

describe('GO and INFO', () => {
  test.each([NBD_OPT_INFO, NBD_OPT_GO])('option %i tells all that is asked for', async (option) => {
    const directory = oneDisk();
    const driver = greeted(directory);
    const replies = await driver.option(option, infoRequestBytes('disk', ALL_INFOS));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_INFO, NBD_REP_INFO, NBD_REP_INFO, NBD_REP_INFO, NBD_REP_ACK]);
    expect(replies.every((reply) => reply.option === option)).toBe(true);
    expect(decodeExportInfos(replies.slice(0, -1))).toEqual({
      sizeBytes: 1048576n,
      transmissionFlags: WRITABLE_FLAGS,
      name: 'disk',
      description: 'for tests',
      blockSizes: { minimum: 1, preferred: 4096, maximum: TEST_SETTINGS.maxRequestBytes },
    });
    expect(directory.holderCount('disk')).toBe(option === NBD_OPT_GO ? 1 : 0);
    expect(driver.session.inTransmission).toBe(option === NBD_OPT_GO);
  });

  test('tell the size when nothing is asked for, and nothing else', async () => {
    const replies = await greeted(oneDisk()).option(NBD_OPT_GO, infoRequestBytes('disk'));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_INFO, NBD_REP_ACK]);
    expect(decodeExportInfos(replies.slice(0, 1)).sizeBytes).toBe(1048576n);
  });

  test('ignore infos that nobody knows, and repetitions', async () => {
    const replies = await greeted(oneDisk()).option(NBD_OPT_GO, infoRequestBytes('disk', [77, 1, 1, 0xffff]));
    expect(decodeExportInfos(replies.slice(0, -1)).name).toBe('disk');
  });

  test('advertise a larger block as the preferred size', async () => {
    const directory = new MemoryDirectory(new MemoryDevice({ blockSizeBytes: 65536 }));
    const replies = await greeted(directory).option(NBD_OPT_INFO, infoRequestBytes('disk', [NBD_INFO_BLOCK_SIZE]));
    expect(decodeExportInfos(replies.slice(0, -1)).blockSizes?.preferred).toBe(65536);
  });

  test('advertise no writes of a read-only volume', async () => {
    const directory = new MemoryDirectory(new MemoryDevice({ readOnly: true }));
    const replies = await greeted(directory).option(NBD_OPT_INFO, infoRequestBytes('disk'));
    expect(decodeExportInfos(replies.slice(0, -1)).transmissionFlags).toBe(READ_ONLY_FLAGS);
  });

  test('refuse a volume that is not there, and the session goes on', async () => {
    const driver = greeted(oneDisk());
    for (const option of [NBD_OPT_INFO, NBD_OPT_GO]) {
      const replies = await driver.option(option, infoRequestBytes('other'));
      expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_UNKNOWN]);
      expect(replies[0].data.toString()).toBe('there is no export "other"');
    }
    expect((await driver.option(NBD_OPT_GO, infoRequestBytes('disk'))).at(-1)?.type).toBe(NBD_REP_ACK);
  });

  test('refuse malformed data with a reason, and the session goes on', async () => {
    const driver = greeted(oneDisk());
    const whole = infoRequestBytes('disk', [1]);
    for (const data of [whole.subarray(0, 3), whole.subarray(0, -1), Buffer.concat([whole, whole]), infoRequestBytes('a\0')]) {
      const replies = await driver.option(NBD_OPT_GO, data);
      expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_INVALID]);
      expect(replies[0].data.length).toBeGreaterThan(10);
    }
    expect((await driver.option(NBD_OPT_GO, whole)).at(-1)?.type).toBe(NBD_REP_ACK);
  });

  test('leave one reply in one piece', async () => {
    const driver = greeted(oneDisk());
    driver.sendCount = 0;
    await driver.option(NBD_OPT_GO, infoRequestBytes('disk', ALL_INFOS));
    expect(driver.sendCount).toBe(1);
  });
});

describe('the empty export name', () => {
  test('means the only volume', async () => {
    const replies = await greeted(oneDisk()).option(NBD_OPT_GO, infoRequestBytes('', [NBD_INFO_NAME]));
    expect(decodeExportInfos(replies.slice(0, -1)).name).toBe('disk');
  });

  test('means the configured one', async () => {
    const directory = new MemoryDirectory(new MemoryDevice({ name: 'a' }), new MemoryDevice({ name: 'b', sizeBytes: 8192 }));
    const driver = greeted(directory, { defaultExport: 'b' });
    const replies = await driver.option(NBD_OPT_GO, infoRequestBytes('', [NBD_INFO_NAME]));
    expect(decodeExportInfos(replies.slice(0, -1))).toMatchObject({ name: 'b', sizeBytes: 8192n });
  });

  test('means none of several', async () => {
    const directory = new MemoryDirectory(new MemoryDevice({ name: 'a' }), new MemoryDevice({ name: 'b' }));
    const replies = await greeted(directory).option(NBD_OPT_GO, infoRequestBytes(''));
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_ERR_UNKNOWN]);
    expect(replies[0].data.toString()).toContain('2 volumes');
  });
});

describe('EXPORT_NAME', () => {
  test('opens an export with and without padding', async () => {
    for (const [flags, length] of [
      [3, 10],
      [1, 134],
    ]) {
      const driver = start(oneDisk());
      driver.greet(flags);
      driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
      await settled();
      const reply = driver.takeOutput();
      expect(reply).toHaveLength(length);
      expect(reply.readBigUInt64BE(0)).toBe(1048576n);
      expect(reply.readUInt16BE(8)).toBe(WRITABLE_FLAGS);
      expect(await driver.read(0, 16)).toHaveLength(16);
    }
  });

  test.each([['other'], ['x'.repeat(4097)], ['a\0']])('of no volume ends the connection', async (name) => {
    const driver = greeted(oneDisk());
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
    expect(driver.isReleased).toBe(true);
  });
});

describe('LIST', () => {
  test('names all volumes in one piece', async () => {
    const directory = new MemoryDirectory(new MemoryDevice({ name: 'a', description: 'first' }), new MemoryDevice({ name: 'b' }));
    const driver = greeted(directory);
    driver.sendCount = 0;
    const replies = await driver.option(NBD_OPT_LIST);
    expect(replies.map(({ type }) => type)).toEqual([NBD_REP_SERVER, NBD_REP_SERVER, NBD_REP_ACK]);
    expect(replies[0].data.toString('latin1')).toBe('\0\0\0\x01afirst');
    expect(driver.sendCount).toBe(1);
  });

  test('of no volumes is an ACK', async () => {
    expect((await greeted(new MemoryDirectory()).option(NBD_OPT_LIST)).map(({ type }) => type)).toEqual([NBD_REP_ACK]);
  });

  test('of many volumes leaves in one piece, however long', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `${index}-${'n'.repeat(2000)}`);
    const directory = new MemoryDirectory(...names.map((name) => new MemoryDevice({ name, sizeBytes: 4096 })));
    const driver = greeted(directory);
    driver.sendCount = 0;
    expect(await driver.option(NBD_OPT_LIST)).toHaveLength(201);
    expect(driver.sendCount).toBe(1);
  });

  test('with data is invalid', async () => {
    expect((await greeted(oneDisk()).option(NBD_OPT_LIST, Buffer.from('x')))[0].type).toBe(NBD_REP_ERR_INVALID);
  });

  test('that fails says why', async () => {
    const directory = oneDisk();
    const driver = greeted(directory);
    directory.failure = new VolumeError('io-error', 'the disk is on fire');
    const replies = await driver.option(NBD_OPT_LIST);
    expect(replies.map(({ type, data }) => [type, data.toString()])).toEqual([[NBD_REP_ERR_PLATFORM, 'the disk is on fire']]);
    expect(driver.events).toMatchObject([{ kind: 'export-refused', error: { code: 'io-error' } }]);
  });
});

test('ABORT is acknowledged, and what follows it is not looked at', async () => {
  const driver = greeted(oneDisk());
  driver.feed(Buffer.concat([optionBytes(NBD_OPT_ABORT, Buffer.from('bye')), Buffer.from('garbage behind it')]));
  await settled();
  expect(driver.takeOptionReplies().map(({ type }) => type)).toEqual([NBD_REP_ACK]);
  expect(driver.finished).toBe('in order');
  expect(driver.isReleased).toBe(true);
  expect(messages(driver)).toEqual([]);
});

test.each([4, 12, 0, 0xffffffff])('option %i is not supported, and the stream stays in sync', async (option) => {
  const driver = greeted(oneDisk());
  const replies = await driver.option(option, Buffer.alloc(5000, 0x49));
  expect(replies.map(({ type, option: answered }) => [answered, type])).toEqual([[option, NBD_REP_ERR_UNSUP]]);
  expect((await driver.option(NBD_OPT_LIST)).at(-1)?.type).toBe(NBD_REP_ACK);
});

describe('limits', () => {
  test('more options than allowed end the connection', async () => {
    const driver = greeted(oneDisk(), { maxOptions: 10 });
    for (let count = 0; count < 11; count += 1) driver.feed(optionBytes(NBD_OPT_LIST));
    await settled();
    expect(driver.takeOptionReplies()).toHaveLength(20);
    expect(driver.finished).toBe('broken');
    expect(messages(driver)).toEqual(['more than 10 options']);
  });

  test('option data that is too long ends the connection before it arrives', () => {
    const driver = greeted(oneDisk(), { maxOptionBytes: 1000 });
    driver.feed(optionBytes(99, Buffer.alloc(0), 1001));
    expect(driver.finished).toBe('broken');
    expect(messages(driver)).toEqual(['option data of 1001 bytes is longer than 1000']);
  });

  test('option data just as long as allowed is read', async () => {
    const driver = greeted(oneDisk(), { maxOptionBytes: 20_000 });
    expect((await driver.option(99, Buffer.alloc(20_000)))[0].type).toBe(NBD_REP_ERR_UNSUP);
  });

  test('anything that is no option ends the connection', () => {
    const driver = greeted(oneDisk());
    driver.feed(Buffer.from('GET / HTTP/1.1\r\n'));
    expect(driver.finished).toBe('broken');
    expect(messages(driver)).toEqual(['an option does not start with IHAVEOPT']);
  });

  test('replies that nobody takes stop further options', async () => {
    const driver = greeted(oneDisk(), { maxReplyBytes: 100 });
    driver.takesReplies = false;
    driver.sendCount = 0;
    for (let count = 0; count < 10; count += 1) driver.feed(optionBytes(99));
    await settled();
    expect(driver.session.wantsInput).toBe(false);
    expect(driver.sendCount).toBeLessThan(5);
    for (let count = 0; count < 20; count += 1) {
      driver.takeUnsent();
      await settled();
    }
    expect(driver.takeOptionReplies()).toHaveLength(10);
    expect(driver.session.wantsInput).toBe(true);
  });
});

describe('a handshake', () => {
  const script = Buffer.concat([
    clientFlagsBytes(3),
    optionBytes(8),
    optionBytes(NBD_OPT_LIST),
    optionBytes(NBD_OPT_INFO, infoRequestBytes('disk', ALL_INFOS)),
    optionBytes(NBD_OPT_GO, infoRequestBytes('nobody')),
    optionBytes(NBD_OPT_GO, infoRequestBytes('disk', ALL_INFOS)),
  ]);

  test.each([1, 2, 3, 7, 16, 17, 1000])('may arrive in reads of %i bytes', async (readBytesMax) => {
    const whole = start(oneDisk());
    whole.feed(script);
    await settled();
    const driver = start(oneDisk());
    driver.readBytesMax = readBytesMax;
    driver.feed(script);
    for (let pass = 0; pass < 10; pass += 1) await settled();
    expect(driver.takeOutput().toString('hex')).toBe(whole.takeOutput().toString('hex'));
    expect(driver.session.inTransmission).toBe(true);
  });

  test('keeps what arrives while a volume is being opened', async () => {
    const directory = oneDisk();
    const gate = deferred<void>();
    directory.gate = gate.promise;
    const driver = greeted(directory);
    driver.feed(optionBytes(NBD_OPT_GO, infoRequestBytes('disk')));
    driver.feed(driver.encode({ command: NBD_CMD_READ, offset: 0, length: 100 }));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.session.wantsInput).toBe(false);
    gate.resolve();
    await settled();
    expect(driver.takeOutput()).toHaveLength(32 + 20 + 116);
  });

  test('that is cut while a volume is being opened gives it back', async () => {
    const directory = oneDisk();
    const gate = deferred<void>();
    directory.gate = gate.promise;
    const driver = greeted(directory);
    driver.feed(optionBytes(NBD_OPT_GO, infoRequestBytes('disk')));
    driver.disconnect();
    expect(driver.isReleased).toBe(false);
    gate.resolve();
    await settled();
    expect(driver.isReleased).toBe(true);
    expect(directory.holderCount('disk')).toBe(0);
    expect(driver.events).toEqual([]); // nobody is there to have negotiated anything
  });

  test('ends with the client', async () => {
    const driver = greeted(oneDisk());
    driver.feed(optionBytes(NBD_OPT_LIST).subarray(0, 9));
    driver.session.inputEnded();
    await settled();
    expect(driver.finished).toBe('in order');
    expect(driver.isReleased).toBe(true);
  });

  test('answers an option that came with the end of the stream', async () => {
    const driver = greeted(oneDisk());
    driver.feed(optionBytes(NBD_OPT_LIST));
    driver.session.inputEnded();
    expect(driver.finished).toBe('no');
    await settled();
    expect(driver.takeOptionReplies()).toHaveLength(2);
    expect(driver.finished).toBe('in order');
  });
});

describe('while the server shuts down', () => {
  test('every option but ABORT is refused', async () => {
    const driver = greeted(oneDisk());
    driver.session.shutdown();
    for (const option of [NBD_OPT_LIST, NBD_OPT_GO, NBD_OPT_INFO, 99]) {
      expect((await driver.option(option, infoRequestBytes('disk')))[0].type).toBe(NBD_REP_ERR_SHUTDOWN);
    }
    expect((await driver.option(NBD_OPT_ABORT))[0].type).toBe(NBD_REP_ACK);
    expect(driver.finished).toBe('in order');
  });

  test('a volume that is being opened is given back', async () => {
    const directory = oneDisk();
    const gate = deferred<void>();
    directory.gate = gate.promise;
    const driver = greeted(directory);
    driver.feed(optionBytes(NBD_OPT_GO, infoRequestBytes('disk')));
    driver.session.shutdown();
    gate.resolve();
    await settled();
    expect(driver.takeOptionReplies().map(({ type }) => type)).toEqual([NBD_REP_ERR_SHUTDOWN]);
    expect(directory.holderCount('disk')).toBe(0);
  });

  test('EXPORT_NAME ends the connection', () => {
    const driver = greeted(oneDisk());
    driver.session.shutdown();
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    expect(driver.finished).toBe('broken');
  });
});
