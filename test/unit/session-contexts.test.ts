/** Meta contexts (NBD document, "Metadata querying") and what a handshake agrees on beside the export. */
import { describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_EINVAL,
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_EXTENDED_HEADERS,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_REP_ACK,
  NBD_REP_ERR_EXT_HEADER_REQD,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_META_CONTEXT,
} from '../../src/protocol/constants.ts';
import { MemoryDevice, MemoryDirectory } from '../support/memory-device.ts';
import { decodeExportInfos, infoRequestBytes, metaContextBytes, optionBytes } from '../support/nbd-bytes.ts';
import { SessionDriver, settled, testResources } from '../support/session-driver.ts';

const ALLOCATION = 'base:allocation';
const STATE = 'basalt:state';
const DEPTH = 'qemu:allocation-depth';

function greeted(): SessionDriver {
  const driver = new SessionDriver(testResources(new MemoryDirectory(new MemoryDevice({ name: 'disk' }), new MemoryDevice({ name: 'other' }))));
  driver.greet();
  return driver;
}

async function structured(): Promise<SessionDriver> {
  const driver = greeted();
  expect((await driver.option(NBD_OPT_STRUCTURED_REPLY)).map(({ type }) => type)).toEqual([NBD_REP_ACK]);
  driver.reader.style = 'structured';
  return driver;
}

/** The contexts that an option names, as `id name`, or the type of its refusal. */
async function ask(driver: SessionDriver, option: number, data: Uint8Array): Promise<string[] | number> {
  const replies = await driver.option(option, data);
  const last = replies.at(-1);
  if (last?.type !== NBD_REP_ACK) return last?.type ?? 0;
  return replies.slice(0, -1).map(({ type, data: context }) => {
    expect(type).toBe(NBD_REP_META_CONTEXT);
    return `${context.readUInt32BE(0)} ${context.subarray(4).toString()}`;
  });
}

const set = (driver: SessionDriver, queries: readonly string[], name = 'disk'): Promise<string[] | number> => ask(driver, NBD_OPT_SET_META_CONTEXT, metaContextBytes(name, queries));
const list = (driver: SessionDriver, queries: readonly string[], name = 'disk'): Promise<string[] | number> => ask(driver, NBD_OPT_LIST_META_CONTEXT, metaContextBytes(name, queries));

/** The error of a BLOCK_STATUS, and how many contexts it told of. */
async function statusAfterGo(driver: SessionDriver, name = 'disk'): Promise<[number, number]> {
  const replies = await driver.option(NBD_OPT_GO, infoRequestBytes(name));
  expect(replies.at(-1)?.type).toBe(NBD_REP_ACK);
  const [reply] = await driver.exchange({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 4096 });
  return [reply.error, reply.statuses.size];
}

describe('LIST_META_CONTEXT', () => {
  test.each([
    [[], [`0 ${ALLOCATION}`, `0 ${STATE}`, `0 ${DEPTH}`]],
    [['base:'], [`0 ${ALLOCATION}`]],
    [['basalt:'], [`0 ${STATE}`]],
    [['qemu:'], [`0 ${DEPTH}`]],
    [[ALLOCATION, 'base:', ALLOCATION, STATE], [`0 ${ALLOCATION}`, `0 ${STATE}`]],
    [['base:unknown', 'qemu:dirty-bitmap:', 'qemu:dirty-bitmap:x', 'X-y:z', ':'], []],
  ])('of %j finds what it names, each once', async (queries, expected) => {
    expect(await list(await structured(), queries)).toEqual(expected);
  });

  test('of an unknown export is refused', async () => {
    expect(await list(await structured(), [], 'none')).toBe(NBD_REP_ERR_UNKNOWN);
  });

  test('selects nothing', async () => {
    const driver = await structured();
    await list(driver, [ALLOCATION]);
    expect(await statusAfterGo(driver)).toEqual([NBD_EINVAL, 0]);
  });
});

describe('SET_META_CONTEXT', () => {
  test.each([
    [[], []],
    [[ALLOCATION], [`1 ${ALLOCATION}`]],
    [[STATE, ALLOCATION, ALLOCATION], [`1 ${ALLOCATION}`, `2 ${STATE}`]],
    [[DEPTH, 'qemu:dirty-bitmap:x'], [`3 ${DEPTH}`]],
    [['base:', 'basalt:', 'qemu:', 'base:more', 'other:thing'], []],
  ])('of %j selects what it names whole, each once', async (queries, expected) => {
    const driver = await structured();
    expect(await set(driver, queries)).toEqual(expected);
    driver.reader.contexts = expected.map((context) => ({ id: Number(context[0]), name: context.slice(2) }));
    expect(await statusAfterGo(driver)).toEqual(expected.length === 0 ? [NBD_EINVAL, 0] : [0, expected.length]);
  });

  test('before structured replies is refused', async () => {
    expect(await set(greeted(), [ALLOCATION])).toBe(NBD_REP_ERR_INVALID);
  });

  test.each([
    ['of an unknown export', metaContextBytes('none', [ALLOCATION]), NBD_REP_ERR_UNKNOWN],
    ['with a query past the end', metaContextBytes('disk', [ALLOCATION]).subarray(0, -1), NBD_REP_ERR_INVALID],
    ['with more queries than there are', metaContextBytes('disk', [ALLOCATION], 2), NBD_REP_ERR_INVALID],
    ['with 2^32-1 queries', metaContextBytes('disk', [ALLOCATION], 0xffffffff), NBD_REP_ERR_INVALID],
    ['with bytes behind the last query', metaContextBytes('disk', [ALLOCATION, ALLOCATION], 1), NBD_REP_ERR_INVALID],
    ['of 7 bytes', Buffer.alloc(7), NBD_REP_ERR_INVALID],
    ['with a name past the end', Buffer.from('00000100ffffffff', 'hex'), NBD_REP_ERR_INVALID],
    ['with a query that names no namespace', metaContextBytes('disk', ['allocation']), NBD_REP_ERR_INVALID],
    ['with a NUL in a query', metaContextBytes('disk', ['base:\0']), NBD_REP_ERR_INVALID],
    ['with a NUL in the name', metaContextBytes('di\0sk', [ALLOCATION]), NBD_REP_ERR_INVALID],
    ['with a query that is not UTF-8', metaContextBytes('disk', [Buffer.from('62617365ff', 'hex')]), NBD_REP_ERR_INVALID],
    ['with a name of 4097 bytes', metaContextBytes('x'.repeat(4097), [ALLOCATION]), NBD_REP_ERR_INVALID],
    ['with 257 queries', metaContextBytes('disk', Array.from({ length: 257 }, () => ALLOCATION)), NBD_REP_ERR_TOO_BIG],
  ])('%s is refused, clears what was selected, and the stream stays in sync', async (_, data, error) => {
    const driver = await structured();
    await set(driver, [ALLOCATION]);
    expect(await ask(driver, NBD_OPT_SET_META_CONTEXT, data)).toBe(error);
    expect((await driver.option(NBD_OPT_LIST)).at(-1)?.type).toBe(NBD_REP_ACK);
    expect(await statusAfterGo(driver)).toEqual([NBD_EINVAL, 0]);
  });

  test('takes 256 queries', async () => {
    expect(await set(await structured(), Array.from({ length: 256 }, () => ALLOCATION))).toEqual([`1 ${ALLOCATION}`]);
  });

  test('replaces what was selected', async () => {
    const driver = await structured();
    await set(driver, [ALLOCATION]);
    await set(driver, [STATE]);
    driver.reader.contexts = [{ id: 2, name: STATE }];
    expect(await statusAfterGo(driver)).toEqual([0, 1]);
  });

  test('is void for another export', async () => {
    const driver = await structured();
    await set(driver, [ALLOCATION], 'disk');
    expect(await statusAfterGo(driver, 'other')).toEqual([NBD_EINVAL, 0]);
  });

  test('outlives a GO that fails, and an INFO of another export', async () => {
    const driver = await structured();
    await set(driver, [ALLOCATION]);
    await driver.option(NBD_OPT_GO, infoRequestBytes('none'));
    await driver.option(NBD_OPT_INFO, infoRequestBytes('other'));
    driver.reader.contexts = [{ id: 1, name: ALLOCATION }];
    expect(await statusAfterGo(driver)).toEqual([0, 1]);
  });

  test('holds for EXPORT_NAME, too', async () => {
    const driver = await structured();
    await set(driver, [ALLOCATION]);
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    await settled();
    driver.takeOutput();
    driver.reader.contexts = [{ id: 1, name: ALLOCATION }];
    const [reply] = await driver.exchange({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 512 });
    expect(reply.error).toBe(0);
  });

  test('gives the volume back', async () => {
    const directory = new MemoryDirectory(new MemoryDevice());
    const driver = new SessionDriver(testResources(directory));
    driver.greet();
    await driver.option(NBD_OPT_STRUCTURED_REPLY);
    expect(await set(driver, [ALLOCATION])).toHaveLength(1);
    expect(directory.holderCount('disk')).toBe(0);
  });
});

describe('agreeing on replies', () => {
  const S = NBD_OPT_STRUCTURED_REPLY;
  const X = NBD_OPT_EXTENDED_HEADERS;
  test.each([
    ['structured, then again', [S, S], [NBD_REP_ACK, NBD_REP_ERR_INVALID]],
    ['extended, then again', [X, X], [NBD_REP_ACK, NBD_REP_ERR_INVALID]],
    ['structured, then extended', [S, X], [NBD_REP_ACK, NBD_REP_ACK]],
    ['extended, then structured', [X, S], [NBD_REP_ACK, NBD_REP_ERR_EXT_HEADER_REQD]],
  ])('%s', async (_, options, expected) => {
    const driver = greeted();
    const types: (number | undefined)[] = [];
    for (const option of options) types.push((await driver.option(option)).at(-1)?.type);
    expect(types).toEqual(expected);
  });

  test.each([S, X])('with data in option %i is refused, and changes nothing', async (option) => {
    const driver = greeted();
    expect((await driver.option(option, Buffer.alloc(3))).map(({ type }) => type)).toEqual([NBD_REP_ERR_INVALID]);
    expect((await driver.option(option)).map(({ type }) => type)).toEqual([NBD_REP_ACK]);
  });

  test('on extended headers leaves EXPORT_NAME no way but to close', async () => {
    const driver = greeted();
    await driver.option(X);
    driver.feed(optionBytes(NBD_OPT_EXPORT_NAME, Buffer.from('disk')));
    await settled();
    expect(driver.takeOutput()).toHaveLength(0);
    expect(driver.finished).toBe('broken');
  });

  test('on extended headers with a context offers payloads of BLOCK_STATUS, for its export alone', async () => {
    const driver = greeted();
    await driver.option(X);
    const offers = async (name: string): Promise<boolean> => {
      const replies = await driver.option(NBD_OPT_INFO, infoRequestBytes(name));
      return (decodeExportInfos(replies.slice(0, -1)).transmissionFlags & NBD_FLAG_BLOCK_STATUS_PAYLOAD) !== 0;
    };
    expect(await offers('disk')).toBe(false);
    await set(driver, [ALLOCATION]);
    expect([await offers('disk'), await offers('other')]).toEqual([true, false]);
  });
});
