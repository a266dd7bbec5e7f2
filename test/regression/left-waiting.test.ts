/**
 * A client that waits too long for its answers closes the connection, asks on another one again, and then writes newer data: as the kernel's does after `--timeout`.
 * What it had sent on the first one stood unread in that socket, its end behind it, and was carried out over the newer data.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { NO_LIMITS } from '../../src/base/volume-limits.ts';
import { NBD_CMD_WRITE } from '../../src/protocol/constants.ts';
import { hasMappings } from '../support/mappings.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { NbdClient } from '../support/nbd-client.ts';
import { type Listening, ServerHarness } from '../support/server-harness.ts';
import { TestPki } from '../support/test-pki.ts';

const MIB = 1024 * 1024;
const OLD = 1;
const NEW = 2;
const LIMITS = { ...NO_LIMITS, operationsPerSecond: 20, burstOperations: 1 };

let harness: ServerHarness | null = null;
afterEach(async () => {
  await harness?.stop();
  harness = null;
});

const oldWrite = (index: number, length: number): Buffer => {
  const cookie = Buffer.alloc(8);
  cookie.writeUInt32BE(index);
  return requestBytes({ command: NBD_CMD_WRITE, offset: 0, payload: Buffer.alloc(length, OLD), cookie });
};

type Path = 'onread' | 'stream' | 'tls';

let pki: TestPki;
beforeAll(async () => {
  pki = await TestPki.create();
});
afterAll(() => pki.dispose());

async function connect(server: ServerHarness, path: Path): Promise<NbdClient> {
  const client = await NbdClient.connect(server.address);
  await client.greet();
  if (path === 'tls') await client.startTls({ ca: [pki.authority.certificate], servername: 'localhost' });
  await client.go('disk');
  return client;
}

async function start(listening: Listening, path: Path): Promise<{ server: ServerHarness; device: MemoryDevice }> {
  const device = new MemoryDevice({ sizeBytes: 4 * MIB });
  harness = await ServerHarness.start({ listening, receivePath: path === 'tls' ? 'onread' : path, settings: path === 'tls' ? { tls: 'forced', tlsCertificates: pki.directory } : {}, devices: [device] });
  return { server: harness, device };
}

const WAYS = [
  ...(['onread', 'stream', 'tls'] as const).map((path) => ['ipv4', path] as const),
  ...(hasMappings() ? (['onread', 'stream', 'tls'] as const).map((path) => ['unix', path] as const) : []), // its peer cannot be seen without
];

describe.each(WAYS)('over %s, by %s,', (listening, path) => {
  test('writes that wait for a limit are dropped when their client has left', async () => {
    const { server, device } = await start(listening, path);
    server.directory.limits = LIMITS;
    const first = await connect(server, path);
    for (let index = 0; index < 9; index += 1) first.send(oldWrite(index, 512));
    await delay(40); // longer than what is carried out in any case
    first.socket.end();
    const second = await connect(server, path);
    await second.write(0, Buffer.alloc(512, NEW));
    await delay(200);
    expect(device.data[0]).toBe(NEW);
    await server.logger.first('client-left-waiting');
    expect(server.directory.holderCount('disk')).toBe(1);
    await second.close();
  });

  test('writes that wait for room are dropped when their client has left, and what is under way is finished', async () => {
    const { server, device } = await start(listening, path);
    const first = await connect(server, path);
    await first.write(4096, Buffer.alloc(512, OLD));
    device.full = true;
    for (let index = 0; index < 5; index += 1) first.send(oldWrite(index, 512));
    await delay(60);
    first.socket.end();
    const second = await connect(server, path);
    device.makeRoom();
    await second.write(0, Buffer.alloc(512, NEW));
    await delay(50);
    expect([device.data[0], device.data[4096]]).toEqual([NEW, OLD]);
    expect(server.logger.events).toContainEqual(expect.objectContaining({ event: 'client-left-waiting' }));
    await second.close();
  });
});
