/** What attaching needs of this machine: connections that are taken away from Node, and a netlink socket; with our own server. */
import { closeSync, readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { createDialler } from '../../src/attach/dial.ts';
import { NetlinkKernel } from '../../src/attach/netlink-kernel.ts';
import { decodeFamily, encodeGetFamily } from '../../src/attach/nbd-netlink.ts';
import { decodeAnswers } from '../../src/attach/netlink.ts';
import { duplicateDescriptor, openGenericNetlink, tcpStateOf } from '../../src/env/node-netlink.ts';
import { NBD_CMD_DISC } from '../../src/protocol/constants.ts';
import { encodeGreeting } from '../../src/protocol/negotiation.ts';
import type { NbdTarget } from '../../src/protocol/uri.ts';
import { refusalOf } from '../support/fake-kernel.ts';
import { hasMappings } from '../support/mappings.ts';
import { MemoryDevice } from '../support/memory-device.ts';
import { requestBytes } from '../support/nbd-bytes.ts';
import { type Listening, ServerHarness } from '../support/server-harness.ts';

const MIB = 1024 * 1024;
let harness: ServerHarness | null = null;
let listener: Server | null = null;
afterEach(async () => {
  await harness?.stop();
  harness = null;
  listener?.close();
  listener = null;
});

const openDescriptors = (): string[] => readdirSync('/proc/self/fd').map((name) => {
  try {
    return readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return ''; // the one that read the directory
  }
}).filter((link) => link.startsWith('socket:')).toSorted();

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn += 1) {
    if (turn > 100_000) throw new Error(`${what} does not come`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function serve(listening: Listening): Promise<NbdTarget> {
  harness = await ServerHarness.start({ listening, devices: [new MemoryDevice({ sizeBytes: 4 * MIB })] });
  return { address: harness.address, exportName: 'disk', tls: false };
}

const dialler = createDialler(duplicateDescriptor);

describe.runIf(hasMappings())('a dialled connection', () => {
  test.each(['ipv4', 'ipv6', 'unix'] as const)('over %s is nobody’s but the caller’s: Node has closed its own, and reads nothing of it', async (listening) => {
    const target = await serve(listening);
    const before = openDescriptors();
    const { descriptor, terms } = await dialler.dial(target);
    expect(terms).toMatchObject({ sizeBytes: 4 * MIB, blockSizes: { minimumBytes: 1, preferredBytes: 4096, maximumBytes: 32 * MIB } });
    // One socket more of ours, and the server's end of it, which is in this process, too.
    await until('the server’s end', () => openDescriptors().length === before.length + 2);
    expect(openDescriptors()).toContain(readlinkSync(`/proc/self/fd/${descriptor}`));
    expect(tcpStateOf(descriptor)).toBe(listening === 'unix' ? null : 'open');
    // It speaks: what the kernel would send is answered, and the answer is there to be read by whoever has the descriptor.
    writeSync(descriptor, requestBytes({ command: 0, cookie: Buffer.from('cookie42'), offset: 0, length: 512 }));
    const device = harness?.device;
    await until('the read', () => device?.calls.some((call) => call.startsWith('readNow')) === true);
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve)); // Node would read it now
    const reply = Buffer.alloc(1024);
    expect(readSync(descriptor, reply)).toBe(16 + 512);
    expect(reply.toString('latin1', 8, 16)).toBe('cookie42');
    writeSync(descriptor, requestBytes({ command: NBD_CMD_DISC, cookie: Buffer.alloc(8) }));
    await until('the goodbye', () => harness?.server.connectionCount === 0 || harness?.logger.events.some(({ event }) => event === 'client-disconnected') === true || readEnd(descriptor));
    closeSync(descriptor);
    await until('the end', () => openDescriptors().length === before.length);
  });

  test('that only looks is closed, and the server has no client', async () => {
    const target = await serve('ipv4');
    expect(await dialler.look(target)).toMatchObject({ sizeBytes: 4 * MIB });
    await until('the goodbye', () => harness?.server.connectionCount === 0);
  });

  test('that is refused, or ends, leaves nothing open', async () => {
    const target = await serve('ipv4');
    const before = openDescriptors();
    await expect(dialler.dial({ ...target, exportName: 'other' })).rejects.toMatchObject({ code: 'not-found' });
    await expect(dialler.dial({ ...target, tls: true })).rejects.toMatchObject({ code: 'unsupported' });
    await expect(dialler.dial({ ...target, address: { path: '/nowhere/at/all' } })).rejects.toMatchObject({ code: 'unavailable' });
    await expect(dialler.dial({ ...target, address: { host: '127.0.0.1', port: 1 } })).rejects.toThrow(/no server answers at nbd:\/\/127.0.0.1:1\/disk \(ECONNREFUSED\).*basalt serve/);
    await until('the ends', () => openDescriptors().length === before.length);
  });

  test.each<[string, (socket: Socket) => void, string, RegExp]>([
    ['hangs up', (socket) => socket.end(), 'unavailable', /closed the connection in the middle/],
    ['hangs up behind its greeting', (socket) => socket.end(encodeGreeting()), 'unavailable', /closed the connection|ECONNRESET/],
    ['is another one', (socket) => void socket.write('220 mail.example ESMTP\r\n'), 'unsupported', /no NBD server/],
  ])('to a server that %s says so', async (_, behave, code, text) => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      behave(socket);
    });
    listener = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const failure = dialler.dial({ address: { host: '127.0.0.1', port: address.port }, exportName: 'x', tls: false });
    const refusal = await refusalOf(failure);
    expect(refusal).toMatch(text);
    expect(refusal.startsWith(`${code}: `)).toBe(true);
    for (const socket of sockets) socket.destroy();
  });
});

/** Whether the peer has ended it. */
function readEnd(descriptor: number): boolean {
  try {
    return readSync(descriptor, Buffer.alloc(16)) === 0;
  } catch {
    return false; // nothing yet
  }
}

describe.runIf(hasMappings())('a netlink socket', () => {
  test('asks this kernel, which answers: of a family that every kernel has, and of one that none has', async () => {
    const socket = openGenericNetlink();
    const request = Buffer.from(encodeGetFamily(7));
    request.write('nbx\0', 24, 'latin1');
    await socket.send(request);
    expect(decodeAnswers((await socket.receive()) ?? new Uint8Array(0))).toEqual([{ kind: 'end', sequence: 7, errno: 2 }]);
    // nlctrl\0 is 7 bytes, one word more.
    const known = Buffer.concat([request.subarray(0, 24), Buffer.from('nlctrl\0\0')]);
    known.writeUInt32LE(known.length, 0);
    known.writeUInt16LE(11, 20);
    await socket.send(known);
    const [answer] = decodeAnswers((await socket.receive()) ?? new Uint8Array(0));
    if (answer.kind !== 'message') throw new Error('an end');
    expect(decodeFamily(answer)).toEqual({ family: 16, group: null });
    socket.close();
  });

  test('ends a receive that waits, and leaves no descriptor', async () => {
    const before = openDescriptors();
    const socket = openGenericNetlink();
    expect(openDescriptors()).toHaveLength(before.length + 1);
    const waiting = socket.receive();
    socket.close();
    expect(await waiting).toBe(null);
    expect(openDescriptors()).toEqual(before);
    const idle = openGenericNetlink();
    idle.close();
    idle.close();
    expect(openDescriptors()).toEqual(before);
    expect(() => openGenericNetlink().join(0x7fff_ffff)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test.skipIf(readdirSync('/sys/block').some((name) => /^nbd\d/.test(name)))('of a kernel without the module says what is missing', async () => {
    expect(await refusalOf(NetlinkKernel.open(openGenericNetlink))).toMatch(/^not-found: .*the module nbd is not loaded/);
  });
});
