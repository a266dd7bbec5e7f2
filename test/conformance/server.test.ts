/** The whole NBD side over real sockets, with a strict client. */
import { existsSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { VolumeError } from '../../src/base/errors.ts';
import { NBD_CMD_FLUSH, NBD_CMD_READ, NBD_CMD_WRITE, NBD_ESHUTDOWN, NBD_REP_ERR_SHUTDOWN } from '../../src/protocol/constants.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient, NbdDisconnected } from '../support/nbd-client.ts';
import { type HarnessOptions, ServerHarness } from '../support/server-harness.ts';
import { settled } from '../support/session-driver.ts';

const MIB = 1024 * 1024;
const stops: (() => Promise<void>)[] = [];

async function start(options: HarnessOptions = {}): Promise<ServerHarness> {
  const harness = await ServerHarness.start(options);
  stops.push(() => harness.stop());
  return harness;
}

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

const pattern = (length: number, seed: number): Buffer => {
  const bytes = Buffer.alloc(length, seed & 0xff);
  for (let at = 0; at + 4 <= length; at += 512) bytes.writeUInt32BE(at ^ (seed << 8), at);
  return bytes;
};

describe.each([
  { listening: 'unix', receivePath: 'onread' },
  { listening: 'unix', receivePath: 'stream' },
  { listening: 'ipv4', receivePath: 'onread' },
  { listening: 'ipv4', receivePath: 'stream' },
  { listening: 'ipv6', receivePath: 'onread' },
] as const)('over $listening with $receivePath', (options) => {
  test('a client reads back what it wrote, in every size, and leaves in order', async () => {
    const { address, device, logger, directory } = await start(options);
    const client = await NbdClient.open(address, 'disk', [0, 1, 2, 3]);
    expect(client.export).toMatchObject({ name: 'disk', sizeBytes: 16777216n });
    for (const [index, length] of [1, 512, 4096, 131_072, 262_144, MIB, 5 * MIB + 1, 15 * MIB].entries()) {
      const payload = pattern(length, index);
      await client.write(index, payload, index % 2 === 0);
      expect((await client.read(index, length)).equals(payload)).toBe(true);
    }
    await client.flush();
    await client.zero(0, 5 * MIB, { provisioned: true });
    await client.trim(8 * MIB, 4096);
    await client.cache(0, 4096);
    expect((await client.read(0, 5 * MIB)).every((byte) => byte === 0)).toBe(true);
    await client.close();
    expect((await logger.first('client-connected')).fields.receivePath).toBe(options.receivePath);
    const { fields } = await logger.first('client-disconnected');
    expect(fields).toMatchObject({ reason: 'client left', export: 'disk' });
    expect(directory.holderCount('disk')).toBe(0);
    expect(device.calls.at(-1)).toBe(`readNow 0+${5 * MIB}`);
  });

  test('many requests in flight are all answered, each with its own data', async () => {
    const { address, server } = await start(options);
    const client = await NbdClient.open(address);
    const lengths = [4096, 40_000, 300_000, 512, 1_000_000];
    const all = Array.from({ length: 100 }, (_, index) => index);
    await Promise.all(all.map((index) => client.write(index * 100_000, pattern(100_000, index))));
    const reads = await Promise.all(all.map((index) => client.read(index * 100_000, lengths[index % 5])));
    for (const index of all) {
      const expected = Buffer.concat(Array.from({ length: 11 }, (_, step) => (index + step < 100 ? pattern(100_000, index + step) : Buffer.alloc(100_000))));
      expect(reads[index].equals(expected.subarray(0, lengths[index % 5])), `read ${index}`).toBe(true);
    }
    await client.close();
    await settled();
    expect(server.bufferBytes).toBe(0);
  });

  test('a WRITE, DISC and the end of the stream in one packet are all honoured', async () => {
    const { address, device } = await start(options);
    const client = await NbdClient.open(address);
    const reply = client.request({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(200_000, 3) });
    client.send(requestBytes({ command: 2, cookie: Buffer.alloc(8) }));
    client.endInput();
    expect((await reply).error).toBe(0);
    await client.expectEnd();
    expect(pattern(200_000, 3).equals(device.data.subarray(0, 200_000))).toBe(true);
  });

  test('the end of the stream alone lets everything be answered', async () => {
    const { address } = await start(options);
    const client = await NbdClient.open(address);
    const replies = Array.from({ length: 20 }, (_, index) => client.request({ command: NBD_CMD_READ, offset: index * 4096, length: 200_000 }));
    client.endInput();
    for (const reply of replies) expect((await reply).error).toBe(0);
    await client.expectEnd();
  });

  test('a write waits for a device without room, and reading stops meanwhile', async () => {
    const { address, device, server } = await start(options);
    const client = await NbdClient.open(address);
    device.full = true;
    const replies = Array.from({ length: 12 }, (_, index) => client.request({ command: NBD_CMD_WRITE, offset: index * MIB, payload: pattern(MIB, index) }));
    const other = await NbdClient.open(address);
    expect(await other.read(0, 10)).toHaveLength(10);
    expect(server.bufferBytes).toBeLessThan(4 * MIB); // the rest waits in the socket
    device.makeRoom();
    for (const reply of replies) expect((await reply).error).toBe(0);
    for (const index of replies.keys()) expect((await other.read(index * MIB, MIB)).equals(pattern(MIB, index))).toBe(true);
    await Promise.all([client.close(), other.close()]);
  });

  test('a write that cuts blocks is kept whole until it is done', async () => {
    const { address, device } = await start(options);
    device.partialBlocks = true;
    const client = await NbdClient.open(address);
    await Promise.all(Array.from({ length: 10 }, (_, index) => client.write(index * 1_500_000 + 7, pattern(1_200_001, index))));
    for (let index = 0; index < 10; index += 1) {
      expect((await client.read(index * 1_500_000 + 7, 1_200_001)).equals(pattern(1_200_001, index))).toBe(true);
    }
    await client.close();
  });

  test('stopping refuses what is new, finishes what is under way and closes', async () => {
    const harness = await ServerHarness.start(options);
    const { device, address, server } = harness;
    device.settleTime = 'by hand';
    const [busy, idle, greeting] = [await NbdClient.connect(address), await NbdClient.open(address), await NbdClient.connect(address)];
    await greeting.greet();
    await busy.greet();
    await busy.agree('structured');
    await busy.go('');
    const written = busy.request({ command: NBD_CMD_WRITE, offset: 0, payload: pattern(4096, 1) });
    while (device.pendingCount === 0) await settled();
    const stopped = harness.stop(10_000);
    expect((await busy.request({ command: NBD_CMD_FLUSH })).error).toBe(NBD_ESHUTDOWN);
    expect((await greeting.refusedOption(3)).type).toBe(NBD_REP_ERR_SHUTDOWN);
    await idle.expectEnd();
    await expect(NbdClient.connect(address)).rejects.toThrow(/ECONNREFUSED|ENOENT/);
    device.settleAll();
    expect((await written).error).toBe(0);
    await busy.expectEnd();
    await stopped;
    expect(server.connectionCount).toBe(0);
    expect(harness.directory.holderCount('disk')).toBe(0);
    expect('path' in address && existsSync(address.path)).toBe(false);
  });
});

test('the handshake may arrive byte by byte', async () => {
  const { address } = await start({ listening: 'ipv4' });
  const client = await NbdClient.connect(address);
  const sent = client.send.bind(client);
  client.send = (bytes) => {
    for (const byte of bytes) sent(Buffer.from([byte]));
  };
  await client.greet();
  expect(await client.list()).toEqual([{ name: 'disk', description: '' }]);
  await client.go('disk', [1, 3]);
  await client.write(0, pattern(100, 1));
  expect((await client.read(0, 100)).equals(pattern(100, 1))).toBe(true);
  await client.close();
});

test('the old way to open an export works, with and without padding', async () => {
  const { address } = await start();
  for (const flags of [0, 1, 2, 3]) {
    const client = await NbdClient.connect(address);
    await client.greet(flags);
    expect((await client.exportName('disk', flags < 2)).sizeBytes).toBe(16777216n);
    expect(await client.read(0, 16)).toHaveLength(16);
    await client.close();
  }
});

test('ABORT ends the connection in order', async () => {
  const { address, logger } = await start();
  const client = await NbdClient.connect(address);
  await client.greet();
  await client.info('disk');
  await client.abort();
  expect((await logger.first('client-disconnected')).fields).toMatchObject({ reason: 'client left', export: '' });
});

test('connections of one volume share it, and a FLUSH on one covers all', async () => {
  const { address, device, directory } = await start();
  const clients = await Promise.all([1, 2, 3, 4].map(() => NbdClient.open(address)));
  expect(directory.holderCount('disk')).toBe(4);
  await Promise.all(clients.map((client, index) => client.write(index * 4096, pattern(4096, index))));
  for (const [index, client] of clients.entries()) {
    const other = (index + 1) % 4;
    expect((await client.read(other * 4096, 4096)).equals(pattern(4096, other))).toBe(true);
  }
  await clients[2].flush();
  expect(device.calls.slice(-2)).toEqual(['flush', 'submit']);
  await Promise.all(clients.map((client) => client.close()));
});

test('volumes are told apart by their names', async () => {
  const devices = ['a', 'b/c', 'grün 2'].map((name, index) => new MemoryDevice({ name, sizeBytes: 8192 * (index + 1) }));
  const { address } = await start({ devices });
  for (const [index, { name }] of devices.entries()) {
    const client = await NbdClient.open(address, name);
    expect(client.export?.sizeBytes).toBe(BigInt(8192 * (index + 1)));
    await client.write(0, pattern(512, index + 7));
    await client.close();
  }
  for (const [index, { data }] of devices.entries()) expect(pattern(512, index + 7).equals(data.subarray(0, 512))).toBe(true);
});

test('failed requests are logged with what failed, and not without end', async () => {
  const { address, device, logger } = await start();
  const client = await NbdClient.open(address);
  device.failure = new VolumeError('corrupt', 'chunk 000041: checksum 9f3c21aa', { context: { chunk: 41 } });
  for (let count = 0; count < 50; count += 1) expect((await client.request({ command: NBD_CMD_READ, offset: 4096, length: 512 })).error).toBe(5);
  device.failure = null;
  await client.close();
  const failures = logger.events.filter(({ event }) => event === 'request-failed');
  expect(failures).toHaveLength(10);
  expect(failures[0]).toMatchObject({ level: 'error', fields: { export: 'disk', offsetBytes: 4096, lengthBytes: 512, code: 'corrupt', chunk: 41 } });
});

test('a stop does not wait longer than it is told', async () => {
  const harness = await ServerHarness.start();
  const client = await NbdClient.connect(harness.address);
  await client.greet();
  await client.agree('structured');
  await client.go('');
  client.send(requestBytes({ command: NBD_CMD_WRITE, cookie: Buffer.alloc(8), length: 4096 }));
  while (harness.logger.events.every(({ event }) => event !== 'client-negotiated')) await settled();
  const pending = client.request({ command: NBD_CMD_READ, length: 1, cookie: Buffer.alloc(8, 1) }).catch((error: unknown) => error);
  await harness.stop(50);
  expect(await pending).toBeInstanceOf(NbdDisconnected);
  expect((await harness.logger.first('client-disconnected')).fields.reason).toBe('server stopped');
});
