/** Structured replies, meta contexts and extended headers over real sockets, with a strict client. */
import { afterEach, describe, expect, test } from 'vitest';
import {
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_FLAG_DF,
  NBD_CMD_FLAG_REQ_ONE,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_EINVAL,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
} from '../../src/protocol/constants.ts';
import { extendedRequestBytes, requestBytes } from '../support/nbd-bytes.ts';
import { type NbdAddress, NbdClient } from '../support/nbd-client.ts';
import { type HarnessOptions, ServerHarness } from '../support/server-harness.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 16 * MIB;
const ALLOCATION = 'base:allocation';
const STATE = 'basalt:state';
const stops: (() => Promise<void>)[] = [];

async function start(options: HarnessOptions = {}): Promise<ServerHarness> {
  const harness = await ServerHarness.start(options);
  stops.push(() => harness.stop());
  return harness;
}

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

async function open(address: NbdAddress, style: 'structured' | 'extended', contexts: readonly string[] = [ALLOCATION, STATE]): Promise<NbdClient> {
  const client = await NbdClient.connect(address);
  await client.greet();
  await client.agree(style);
  await client.contexts(NBD_OPT_SET_META_CONTEXT, 'disk', contexts);
  await client.go('disk');
  return client;
}

const filled = (length: number, seed: number): Buffer => Buffer.alloc(length, 1 + (seed % 255));

describe.each([
  { style: 'structured', receivePath: 'onread' },
  { style: 'structured', receivePath: 'stream' },
  { style: 'extended', receivePath: 'onread' },
  { style: 'extended', receivePath: 'stream' },
] as const)('with $style replies and $receivePath', ({ style, receivePath }) => {
  test('a client reads back what it wrote, holes between, in every size', async () => {
    const { address, device, server } = await start({ receivePath });
    const client = await open(address, style);
    for (const lends of [false, true]) {
      device.lends = lends;
      for (const [index, length] of [1, 512, 4096, 131_072, MIB, 5 * MIB + 1].entries()) {
        await client.write(index + MIB, filled(length, index));
        const whole = await client.read(0, 8 * MIB);
        expect(whole.equals(device.data.subarray(0, 8 * MIB))).toBe(true);
        expect((await client.read(index + MIB, length)).equals(filled(length, index))).toBe(true);
      }
    }
    await client.zero(0, SIZE, { provisioned: true });
    await client.trim(0, MIB);
    await client.cache(0, MIB);
    await client.flush();
    await client.close();
    expect([server.bufferBytes, device.onLoan]).toEqual([0, 0]);
  });

  test('many requests of all kinds in flight are each answered with their own', async () => {
    const { address, device } = await start({ receivePath, settings: { maxReplyBytes: MIB } });
    const client = await open(address, style);
    const all = Array.from({ length: 60 }, (_, index) => index);
    for (const index of all) if (index % 3 !== 0) device.data.fill(index + 1, index * 100 * KIB, (index + 1) * 100 * KIB);
    const replies = await Promise.all(
      all.map((index) => {
        if (index % 5 === 0) return client.request({ command: NBD_CMD_BLOCK_STATUS, offset: index * 100 * KIB, length: 200 * KIB });
        const flags = index % 4 === 0 ? NBD_CMD_FLAG_DF : 0;
        return client.request({ command: NBD_CMD_READ, flags, offset: index * 100 * KIB, length: 200 * KIB + index });
      }),
    );
    for (const [index, { error, data, statuses }] of replies.entries()) {
      expect(error).toBe(0);
      const isStatus = index % 5 === 0;
      expect(statuses.size).toBe(isStatus ? 2 : 0);
      const expected = isStatus ? Buffer.alloc(0) : device.data.subarray(index * 100 * KIB, index * 100 * KIB + 200 * KIB + index);
      expect(data.equals(expected), `reply ${index}`).toBe(true);
    }
    await client.close();
  });

  test('the status of a volume is that of its blocks, and the server still serves others', async () => {
    const { address, device } = await start({ receivePath });
    const client = await open(address, style);
    device.data.fill(1, MIB, 2 * MIB);
    const { statuses } = await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: SIZE });
    expect(statuses.get(1)?.map(({ length, status }) => [length / MIB, status])).toEqual([
      [1, 3],
      [1, 0],
      [14, 3],
    ]);
    const one = await client.request({ command: NBD_CMD_BLOCK_STATUS, flags: NBD_CMD_FLAG_REQ_ONE, offset: MIB, length: SIZE - MIB });
    expect(one.statuses.get(2)).toEqual([{ length: MIB, status: 4 }]);
    expect((await client.request({ command: NBD_CMD_BLOCK_STATUS, offset: SIZE, length: 1 })).error).toBe(NBD_EINVAL);
    await client.close();
    const plain = await NbdClient.open(address);
    expect((await plain.read(MIB, 4096)).equals(filled(4096, 0))).toBe(true);
    expect((await plain.request({ command: NBD_CMD_BLOCK_STATUS, offset: 0, length: 512 })).error).toBe(NBD_EINVAL);
    await plain.close();
  });

  test('half a WRITE and the end of the stream change nothing', async () => {
    const { address, device } = await start({ receivePath });
    const client = await open(address, style);
    const header = { command: NBD_CMD_WRITE, offset: 0, length: 4096, cookie: Buffer.alloc(8) };
    client.send(style === 'extended' ? extendedRequestBytes({ ...header, flags: 1 << 5 }) : requestBytes(header));
    client.send(filled(4095, 3));
    client.endInput();
    await client.expectEnd();
    expect(device.data.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
  });

  test('the wrong kind of request ends the connection, and a new client is served', async () => {
    const { address, logger } = await start({ receivePath });
    const client = await open(address, style);
    const header = { command: NBD_CMD_READ, offset: 0, length: 512, cookie: Buffer.alloc(8) };
    client.send(style === 'extended' ? Buffer.concat([requestBytes(header), Buffer.alloc(4)]) : extendedRequestBytes(header));
    await client.expectEnd();
    expect((await logger.first('client-protocol-error')).fields).toBeDefined();
    await (await open(address, style)).close();
  });

  test('replies that nobody takes stop the reading, and all come in the end', async () => {
    const { address, device, server } = await start({ receivePath });
    device.data.fill(7);
    const client = await open(address, style);
    client.socket.pause();
    const replies = Array.from({ length: 150 }, (_, index) => client.request({ command: NBD_CMD_READ, offset: index, length: MIB }));
    const other = await open(address, style);
    expect(await other.read(5, 10)).toHaveLength(10);
    expect(server.bufferBytes).toBeLessThan(24 * MIB);
    client.socket.resume();
    for (const reply of replies) expect((await reply).error).toBe(0);
    await Promise.all([client.close(), other.close()]);
  });
});

test('the contexts of an export are listed', async () => {
  const { address } = await start();
  const client = await NbdClient.connect(address);
  await client.greet();
  await client.agree('structured');
  expect(await client.contexts(NBD_OPT_LIST_META_CONTEXT, 'disk', [])).toEqual([
    { id: 0, name: ALLOCATION },
    { id: 0, name: STATE },
    { id: 0, name: 'qemu:allocation-depth' },
  ]);
  await client.abort();
});
