/** TLS and access as the session sees them: which answer, in which order; the TLS itself is the server's. */
import { describe, expect, test } from 'vitest';
import {
  NBD_EPERM,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_TRIM,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_NAME,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_STARTTLS,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_POLICY,
  NBD_REP_ERR_SHUTDOWN,
  NBD_REP_ERR_TLS_REQD,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_SERVER,
} from '../../src/protocol/constants.ts';
import type { ExportTerms, SessionClient } from '../../src/session/host.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { clientFlagsBytes, decodeExportInfos, infoRequestBytes, optionBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

const TERMS: Readonly<Record<string, ExportTerms>> = { open: 'writable', looked: 'read-only', secret: 'tls-only', theirs: 'hidden' };
const NAMES = Object.keys(TERMS);

function directoryOf(names: readonly string[] = NAMES): MemoryDirectory {
  return new MemoryDirectory(...names.map((name) => new MemoryDevice({ name, description: `about ${name}` })));
}

function start(client: Partial<SessionClient>, directory = directoryOf(), settings = {}): SessionDriver {
  const whole: SessionClient = { tls: 'off', securedFlags: null, termsOf: (name) => TERMS[name] ?? 'writable', ...client };
  const driver = new SessionDriver(testResources(directory, settings), whole);
  if (whole.securedFlags === null) driver.greet();
  return driver;
}

const typesOf = async (driver: SessionDriver, option: number, data?: Uint8Array): Promise<number[]> => (await driver.option(option, data)).map(({ type }) => type);
const messages = (driver: SessionDriver): string[] => driver.events.map((event) => ('message' in event ? event.message : event.kind));

describe('STARTTLS', () => {
  test.each(['selective', 'forced'] as const)('with TLS %s is acknowledged, and nothing that follows is read or remembered', async (tls) => {
    const driver = start({ tls });
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ACK]);
    expect(driver.tlsFlags).toBe(3);
    expect(driver.isReleased).toBe(true);
    expect(driver.finished).toBe('no');
    expect(driver.session.wantsInput).toBe(false);
    driver.feed(optionBytes(NBD_OPT_LIST));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.unreadBytes).toBe(16);
  });

  test('on a server without TLS is refused, and the session goes on', async () => {
    const driver = start({ tls: 'off' });
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ERR_POLICY]);
    expect((await typesOf(driver, NBD_OPT_GO, infoRequestBytes('open'))).at(-1)).toBe(NBD_REP_ACK);
  });

  test.each(['off', 'selective', 'forced'] as const)('with data is invalid with TLS %s, and the session goes on', async (tls) => {
    const driver = start({ tls });
    expect(await typesOf(driver, NBD_OPT_STARTTLS, Buffer.alloc(5000))).toEqual([NBD_REP_ERR_INVALID]);
    expect(driver.tlsFlags).toBeNull();
    expect(await typesOf(driver, NBD_OPT_ABORT)).toEqual([NBD_REP_ACK]);
  });

  test.each(['selective', 'forced'] as const)('a second time is invalid with TLS %s, and the session goes on', async (tls) => {
    const driver = start({ tls, securedFlags: 3 });
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ERR_INVALID]);
    expect((await typesOf(driver, NBD_OPT_GO, infoRequestBytes('open'))).at(-1)).toBe(NBD_REP_ACK);
  });

  test.each([1, 16, 100])('with %i bytes behind it ends the connection, and they are never looked at', async (count) => {
    const driver = start({ tls: 'selective' });
    driver.feed(Buffer.concat([optionBytes(NBD_OPT_STARTTLS), optionBytes(NBD_OPT_LIST), Buffer.alloc(84)]).subarray(0, 16 + count));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
    expect(driver.tlsFlags).toBeNull();
    expect(messages(driver)).toEqual(['data behind NBD_OPT_STARTTLS, before TLS has begun']);
  });

  test('waits for the answers before it', async () => {
    const driver = start({ tls: 'selective' });
    driver.feed(Buffer.concat([optionBytes(NBD_OPT_LIST), optionBytes(NBD_OPT_STARTTLS)]));
    await settled();
    expect(driver.takeOptionReplies().map(({ type }) => type)).toEqual([NBD_REP_SERVER, NBD_REP_SERVER, NBD_REP_ACK, NBD_REP_ACK]);
    expect(driver.tlsFlags).toBe(3);
  });

  test.each([1, 2, 5])('may arrive in reads of %i bytes', async (readBytesMax) => {
    const driver = start({ tls: 'forced' });
    driver.readBytesMax = readBytesMax;
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ACK]);
    expect(driver.tlsFlags).toBe(3);
  });

  test('while the server is shutting down is refused', async () => {
    const driver = start({ tls: 'forced' });
    driver.session.shutdown();
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ERR_SHUTDOWN]);
  });

  test('without the flag of fixed newstyle ends the connection', () => {
    const driver = new SessionDriver(testResources(directoryOf()), { tls: 'selective', securedFlags: null, termsOf: () => 'writable' });
    driver.greet(0);
    driver.feed(optionBytes(NBD_OPT_STARTTLS));
    expect(driver.finished).toBe('broken');
  });
});

describe('behind TLS', () => {
  test('a session begins with options: no greeting, no flags', async () => {
    const driver = start({ tls: 'forced', securedFlags: 3 });
    expect(driver.takeOutput()).toHaveLength(0);
    expect((await typesOf(driver, NBD_OPT_LIST)).at(-1)).toBe(NBD_REP_ACK);
  });

  test.each([
    [1, 134],
    [3, 10],
  ])('the client flags %i of before still hold', async (securedFlags, length) => {
    const driver = start({ tls: 'forced', securedFlags });
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('open')));
    await settled();
    expect(driver.takeOutput()).toHaveLength(length);
  });

  test('nothing is refused for want of TLS', async () => {
    const driver = start({ tls: 'forced', securedFlags: 3 });
    for (const name of ['secret', 'theirs', 'none']) expect(await typesOf(driver, NBD_OPT_GO, infoRequestBytes(name))).toEqual([NBD_REP_ERR_UNKNOWN]);
  });
});

describe('before TLS where it is forced', () => {
  const tls = 'forced';

  test.each([NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, 4, 8, 9, 10, 11, 12, 99, 0xffffffff])('option %i is refused, whatever its data, and the stream stays in sync', async (option) => {
    const driver = start({ tls });
    for (const data of [infoRequestBytes('open'), Buffer.alloc(0), Buffer.alloc(5000, 0x49)]) {
      expect(await typesOf(driver, option, data)).toEqual([NBD_REP_ERR_TLS_REQD]);
    }
    expect(await typesOf(driver, NBD_OPT_STARTTLS)).toEqual([NBD_REP_ACK]);
  });

  test.each(['open', 'none'])('EXPORT_NAME %s ends the connection', async (name) => {
    const driver = start({ tls });
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
  });

  test('ABORT is acknowledged', async () => {
    const driver = start({ tls });
    expect(await typesOf(driver, NBD_OPT_ABORT)).toEqual([NBD_REP_ACK]);
    expect(driver.finished).toBe('in order');
  });

  test('a server that shuts down says so first', async () => {
    const driver = start({ tls });
    driver.session.shutdown();
    expect(await typesOf(driver, NBD_OPT_LIST)).toEqual([NBD_REP_ERR_SHUTDOWN]);
  });
});

describe('before TLS where it is selective', () => {
  const tls = 'selective';

  test('open exports work, and TLS is asked for nowhere else than for exports', async () => {
    const driver = start({ tls });
    const listed = await driver.option(NBD_OPT_LIST);
    expect(listed.slice(0, -1).map(({ data }) => data.subarray(4, 4 + data.readUInt32BE(0)).toString())).toEqual(['open', 'looked']);
    expect(await typesOf(driver, 99)).not.toEqual([NBD_REP_ERR_TLS_REQD]);
    expect((await typesOf(driver, NBD_OPT_GO, infoRequestBytes('open'))).at(-1)).toBe(NBD_REP_ACK);
  });

  test.each([NBD_OPT_INFO, NBD_OPT_GO])('option %i answers alike for an export of TLS, of others, and of nobody', async (option) => {
    const driver = start({ tls });
    for (const name of ['secret', 'theirs', 'none']) {
      const replies = await driver.option(option, infoRequestBytes(name, [NBD_INFO_NAME, NBD_INFO_DESCRIPTION]));
      expect(replies.map(({ type, data }) => [type, data.toString()])).toEqual([[NBD_REP_ERR_TLS_REQD, `there is no export "${name}" without TLS`]]);
    }
    expect((await typesOf(driver, option, infoRequestBytes('open'))).at(-1)).toBe(NBD_REP_ACK);
  });

  test.each(['secret', 'theirs', 'none'])('EXPORT_NAME %s ends the connection', async (name) => {
    const driver = start({ tls });
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from(name)));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
  });
});

const termsOf = (name: string): ExportTerms => (name === 'mine' ? 'writable' : 'hidden');

describe('an export that is not for the client', () => {
  test('is not listed', async () => {
    const driver = start({ termsOf }, directoryOf(['mine', 'theirs']));
    expect((await driver.option(NBD_OPT_LIST)).map(({ type }) => type)).toEqual([NBD_REP_SERVER, NBD_REP_ACK]);
  });

  test.each([NBD_OPT_INFO, NBD_OPT_GO])('answers option %i as one that does not exist, byte for byte', async (option) => {
    const answers: string[] = [];
    for (const names of [['mine', 'theirs'], ['mine']]) {
      const driver = start({ termsOf: names.length === 2 ? termsOf : () => 'writable' }, directoryOf(names));
      driver.feed(optionBytes(option, infoRequestBytes('theirs', [NBD_INFO_NAME, NBD_INFO_DESCRIPTION])));
      await settled();
      answers.push(driver.takeOutput().toString('hex'));
    }
    expect(answers[0].length).toBeGreaterThan(40);
    expect(answers[0]).toBe(answers[1]);
  });

  test('is never opened', async () => {
    const directory = directoryOf(['mine', 'theirs']);
    const driver = start({ termsOf }, directory);
    await driver.option(NBD_OPT_GO, infoRequestBytes('theirs'));
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('theirs')));
    await settled();
    expect(directory.holders.size).toBe(0);
    expect(driver.openings).toEqual([]);
    expect(driver.finished).toBe('broken');
    expect(driver.events[0]).toMatchObject({ kind: 'export-refused', exportName: 'theirs', error: { context: { terms: 'hidden' } } });
  });

  test('does not count for the empty name', async () => {
    const driver = start({ termsOf }, directoryOf(['mine', 'theirs']));
    const replies = await driver.option(NBD_OPT_GO, infoRequestBytes('', [NBD_INFO_NAME]));
    expect(decodeExportInfos(replies.slice(0, -1)).name).toBe('mine');
  });

  test('is not the default either', async () => {
    const driver = start({ termsOf }, directoryOf(['mine', 'theirs']), { defaultExport: 'theirs' });
    expect(await typesOf(driver, NBD_OPT_GO, infoRequestBytes(''))).toEqual([NBD_REP_ERR_UNKNOWN]);
  });
});

describe('an export that is read-only for the client', () => {
  test('says so in its flags, also in those of EXPORT_NAME', async () => {
    const replies = await start({}).option(NBD_OPT_INFO, infoRequestBytes('looked'));
    const { transmissionFlags } = decodeExportInfos(replies.slice(0, -1));
    expect(transmissionFlags & NBD_FLAG_READ_ONLY).not.toBe(0);
    expect(transmissionFlags & NBD_FLAG_SEND_TRIM).toBe(0);
    const driver = start({});
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('looked')));
    await settled();
    expect(driver.takeOutput().readUInt16BE(8)).toBe(transmissionFlags);
  });

  test('refuses every change, stays in sync, and is writable for others', async () => {
    const directory = directoryOf();
    const driver = start({}, directory);
    await driver.option(NBD_OPT_GO, infoRequestBytes('looked'));
    expect(driver.events).toMatchObject([{ kind: 'negotiated', readOnly: true }]);
    expect(await driver.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096, 1) })).toBe(NBD_EPERM);
    expect(await driver.errorOf({ command: NBD_CMD_WRITE_ZEROES, offset: 0, length: 4096 })).toBe(NBD_EPERM);
    expect(await driver.errorOf({ command: NBD_CMD_TRIM, offset: 0, length: 4096 })).toBe(NBD_EPERM);
    expect(await driver.errorOf({ command: NBD_CMD_READ, offset: 0, length: 4096 })).toBe(0);
    const other = new SessionDriver(testResources(directory));
    await other.go('looked');
    expect(await other.errorOf({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(4096, 1) })).toBe(0);
  });
});

test('client flags may come with the first option', async () => {
  const driver = new SessionDriver(testResources(directoryOf()), { tls: 'forced', securedFlags: null, termsOf: () => 'writable' });
  driver.takeOutput();
  driver.feed(Buffer.concat([clientFlagsBytes(1), optionBytes(NBD_OPT_STARTTLS)]));
  await settled();
  expect(driver.tlsFlags).toBe(1);
});
