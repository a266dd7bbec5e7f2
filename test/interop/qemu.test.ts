import { createHash, randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk, runTool } from './tools.ts';

const MIB = 1024 * 1024;
let server: RealServer;
let image: string;

/** A raw image of 48 MiB: random data, holes and written zeroes, none of them aligned to the others. */
async function makeImage(path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.truncate(48 * MIB);
    await file.write(randomBytes(5 * MIB + 512), 0, undefined, 0);
    await file.write(randomBytes(9 * MIB), 0, undefined, 11 * MIB + 4096);
    await file.write(Buffer.alloc(3 * MIB), 0, undefined, 24 * MIB);
    await file.write(randomBytes(1536), 0, undefined, 48 * MIB - 1536);
  } finally {
    await file.close();
  }
}

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('disk', '48M');
  await server.start();
  image = join(server.directory, 'image.raw');
  await makeImage(image);
});
afterAll(() => server.dispose());

async function digest(path: string): Promise<string> {
  return createHash('sha256').update(await readFile(path)).digest('hex');
}

const transports = [
  { transport: 'tcp', uri: () => server.tcp('disk') },
  { transport: 'unix', uri: () => server.unix('disk') },
];

const RAW = ['-f', 'raw', '-t', 'writeback'];

/** qemu-io commands in one process; it ends with 1 when a pattern is not what it should be. */
const io = (uri: string, ...commands: string[]): Promise<string> => runOk('qemu-io', ...RAW, ...commands.flatMap((command) => ['-c', command]), uri);

describe.each(transports)('qemu-img on $transport', ({ transport, uri }) => {
  interopTest(['qemu-img'], 'converts in and out, and the copy is the image', async () => {
    await runOk('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', '-W', image, uri());
    await runOk('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri());
    const copy = join(server.directory, `copy-${transport}.raw`);
    await runOk('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri(), copy);
    expect(await digest(copy)).toBe(await digest(image));
  });

  interopTest(['qemu-img', 'qemu-io'], 'sees one changed byte', async () => {
    await runOk('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, uri());
    await io(uri(), 'write -P 90 30M 1');
    expect((await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, uri()])).status).toBe(1);
  });

  interopTest(['qemu-img'], 'writes a qcow2 image into the volume and reads it back', async () => {
    await runOk('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, uri());
    const qcow = join(server.directory, `copy-${transport}.qcow2`);
    await runOk('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uri(), qcow);
    await runOk('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', image, qcow);
  });
});

describe('qemu-img bench', () => {
  for (const flags of [
    ['-d', '32', '-s', '4096', '-c', '3000'],
    ['-d', '16', '-s', '65536', '-c', '500', '-w', '--pattern=90', '--flush-interval=50'],
    ['-d', '8', '-s', '1M', '-S', '1536k', '-c', '30', '-w', '--no-drain', '--flush-interval=16'],
  ]) {
    interopTest(['qemu-img', 'qemu-io'], `ends well with ${flags.join(' ')}`, async () => {
      expect(await runOk('qemu-img', 'bench', '-f', 'raw', '-t', 'none', ...flags, server.tcp('disk'))).toContain('Run completed in');
      if (flags.includes('--pattern=90')) await io(server.tcp('disk'), 'read -P 90 0 31M');
    });
  }
});

describe.each(transports)('qemu-io on $transport', ({ uri }) => {
  interopTest(['qemu-io'], 'finds its patterns again: written, zeroed, discarded, unaligned', async () => {
    await io(
      uri(),
      'write -P 17 0 1M',
      'write -f -P 90 1M 64k',
      'write -P 33 1048577 4095',
      'read -P 17 0 1M',
      'read -P 90 1M 1',
      'read -P 33 1048577 4095',
      'read -P 90 1052672 60k',
      'write -zu 64k 64k',
      'read -P 0 64k 64k',
      'write -z 200000 300000',
      'read -P 17 131072 68928',
      'read -P 0 200000 300000',
      'discard 512k 256k',
      'read -P 0 512k 256k',
      'read -P 17 768k 256k',
      'flush',
    );
  });

  interopTest(['qemu-io'], 'keeps requests in flight apart', async () => {
    const commands = Array.from({ length: 40 }, (_, index) => `aio_write -P ${index + 1} ${index * 100_000 + 77} 100000`);
    const checks = Array.from({ length: 40 }, (_, index) => `read -P ${index + 1} ${index * 100_000 + 77} 100000`);
    await io(uri(), ...commands, 'aio_flush', 'flush', ...checks);
  });

  interopTest(['qemu-io'], 'notices a wrong pattern', async () => {
    await io(uri(), 'write -P 1 0 4k');
    const { status } = await runTool('qemu-io', [...RAW, '-c', 'read -P 2 0 4k', uri()]);
    expect(status).not.toBe(0);
  });

  interopTest(['qemu-io'], 'finds its data after a restart of the server', async () => {
    await io(uri(), 'write -P 66 1000000 1000000', 'write -z 1500000 1000', 'flush');
    const { status } = await server.stop();
    expect(status).toBe(0);
    await server.start();
    await io(uri(), 'read -P 66 1000000 500000', 'read -P 0 1500000 1000', 'read -P 66 1501000 499000');
  });
});

describe('a qcow2 image in a volume', () => {
  interopTest(['qemu-img', 'qemu-io'], 'is made, written, kept over a restart and found whole', async () => {
    await runOk('qemu-img', 'create', '-q', '-f', 'qcow2', server.tcp('disk'), '1G');
    const qcow = (...commands: string[]): Promise<string> => runOk('qemu-io', '-f', 'qcow2', '-t', 'writeback', ...commands.flatMap((command) => ['-c', command]), server.tcp('disk'));
    const places = Array.from({ length: 60 }, (_, index) => `${index * 17}M`);
    await qcow(...places.map((place, index) => `aio_write -P ${index + 1} ${place} 100k`), 'aio_flush', 'write -z 0 64k', 'discard 17M 64k', 'flush');
    expect((await server.stop()).status).toBe(0);
    await server.start();
    expect(await runOk('qemu-img', 'check', '-f', 'qcow2', server.tcp('disk'))).toContain('No errors were found');
    await qcow(...places.slice(2).map((place, index) => `read -P ${index + 3} ${place} 100k`), 'read -P 0 0 64k', 'read -P 1 64k 36k', 'read -P 0 17M 64k');
  });
});

describe('a volume below a qcow2 overlay', () => {
  interopTest(['qemu-img', 'qemu-io'], 'stays as it was until the overlay is committed into it', async () => {
    const overlay = join(server.directory, 'overlay.qcow2');
    await io(server.tcp('disk'), 'write -P 1 0 8M', 'flush');
    await runOk('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', server.unix('disk'), '-F', 'raw', overlay);
    await runOk('qemu-io', '-f', 'qcow2', '-c', 'write -P 2 1M 3M', '-c', 'write -z 5M 1M', '-c', 'read -P 1 0 1M', overlay);
    await io(server.tcp('disk'), 'read -P 1 0 8M');
    await runOk('qemu-img', 'commit', '-q', overlay);
    await io(server.tcp('disk'), 'read -P 1 0 1M', 'read -P 2 1M 3M', 'read -P 1 4M 1M', 'read -P 0 5M 1M', 'read -P 1 6M 2M');
  });
});
