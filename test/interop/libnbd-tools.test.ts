/** The programs of libnbd beyond what `libnbd.test.ts` and `block-status.test.ts` have: what they may ask, dumps, sparse copies, a file system. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync } from 'node:fs';
import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk, runTool, TOOL_ENVIRONMENT } from './tools.ts';

const MIB = 1024 * 1024;
let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  for (const name of ['demo', 'copy', 'locked']) await server.createVolume(name, '16M');
  const config = join(server.directory, 'basalt.toml');
  await writeFile(config, '[exports.locked]\nread_only = true\n');
  await server.start('--config', config);
});
afterAll(() => server.dispose());

/** 16 MiB, of which [1 MiB, 2 MiB) and the last 5000 bytes are data. */
async function makeImage(name: string): Promise<{ path: string; bytes: Buffer }> {
  const path = join(server.directory, name);
  const bytes = Buffer.alloc(16 * MIB);
  for (let at = MIB; at < 2 * MIB; at += 1) bytes[at] = 1 + (at % 251);
  bytes.fill(7, 16 * MIB - 5000);
  const file = await open(path, 'w');
  await file.truncate(bytes.length);
  await file.write(bytes.subarray(MIB, 2 * MIB), 0, MIB, MIB);
  await file.write(bytes.subarray(-5000), 0, 5000, 16 * MIB - 5000);
  await file.close();
  return { path, bytes };
}

/** `offset length type` of each line of `nbdinfo --map`. */
async function map(volume: string, context = 'base:allocation'): Promise<number[][]> {
  const text = await runOk('nbdinfo', `--map=${context}`, server.tcp(volume));
  return text.trim().split('\n').map((line) => line.trim().split(/\s+/).slice(0, 3).map(Number));
}

const SPARSE = [
  [0, MIB, 3],
  [MIB, MIB, 0],
  [2 * MIB, 14 * MIB - 8192, 3],
  [16 * MIB - 8192, 8192, 0],
];

describe('nbdinfo', () => {
  interopTest(['nbdinfo'], 'says yes to all that can be asked of a writable export', async () => {
    for (const ability of ['connect', 'read', 'write', 'flush', 'fua', 'trim', 'zero', 'fast-zero', 'cache', 'df', 'multi-conn', 'structured-reply']) await runOk('nbdinfo', '--can', ability, server.tcp('demo'));
    for (const no of [['--is', 'read-only'], ['--is', 'rotational'], ['--is', 'tls']]) expect((await runTool('nbdinfo', [...no, server.tcp('demo')])).status).toBe(2);
  });

  interopTest(['nbdinfo'], 'says what cannot be done with a read-only one', async () => {
    await runOk('nbdinfo', '--is', 'read-only', server.tcp('locked'));
    for (const ability of ['read', 'flush', 'fua', 'cache', 'df', 'multi-conn']) await runOk('nbdinfo', '--can', ability, server.tcp('locked'));
    for (const ability of ['write', 'trim', 'zero', 'fast-zero']) expect((await runTool('nbdinfo', ['--can', ability, server.tcp('locked')])).status).toBe(2);
  });

  interopTest(['nbdinfo'], 'lists exports with their descriptions and contexts', async () => {
    const text = await runOk('nbdinfo', '--list', server.unix(''));
    for (const name of ['demo', 'copy', 'locked']) expect(text).toContain(`export="${name}":`);
    expect(text.match(/description: basalt volume, batched/g)).toHaveLength(3);
    expect(text.match(/qemu:allocation-depth/g)).toHaveLength(3);
  });

  interopTest(['nbdinfo', 'nbdcopy'], 'sums a map', async () => {
    await runOk('nbdcopy', '--flush', (await makeImage('totals.raw')).path, server.tcp('demo'));
    const totals = (await runOk('nbdinfo', '--map', '--totals', server.tcp('demo'))).trim().split('\n').map((line) => line.trim().split(/\s+/));
    expect(totals.map(([size, , type]) => [Number(size), Number(type)]).toSorted(([, a], [, b]) => a - b)).toEqual([
      [MIB + 8192, 0],
      [15 * MIB - 8192, 3],
    ]);
  });
});

describe('nbdcopy', () => {
  interopTest(['nbdcopy', 'nbdinfo'], 'keeps holes on the way in and on the way out', async () => {
    const { path, bytes } = await makeImage('in.raw');
    await runOk('nbdcopy', '--connections=4', '--flush', path, server.tcp('demo'));
    expect(await map('demo')).toEqual(SPARSE);
    const out = join(server.directory, 'out.raw');
    await runOk('nbdcopy', '--connections=4', server.tcp('demo'), out);
    expect((await readFile(out)).equals(bytes)).toBe(true);
    expect((await stat(out)).blocks * 512).toBeLessThan(2 * MIB);
  });

  interopTest(['nbdcopy', 'nbdinfo'], 'sends zeroes that become holes, or keep their space where it is told so', async () => {
    const { path, bytes } = await makeImage('full.raw');
    await runOk('nbdcopy', '--allocated', path, server.tcp('demo'));
    // The last piece of 256 KiB has data in it, and goes as it is.
    expect((await map('demo')).slice(0, 3)).toEqual([
      [0, MIB, 2],
      [MIB, MIB, 0],
      [2 * MIB, 14 * MIB - 262_144, 2],
    ]);
    await writeFile(path, bytes); // not sparse any more
    for (const flag of ['--sparse=4096', '--sparse=0']) {
      await runOk('nbdcopy', flag, path, server.tcp('demo'));
      expect(await map('demo')).toEqual(SPARSE);
    }
  });

  interopTest(['nbdcopy'], 'copies one volume to the other, synchronously as well', async () => {
    const { path } = await makeImage('both.raw');
    await runOk('nbdcopy', '--flush', path, server.tcp('demo'));
    for (const flags of [['--connections=4', '--requests=64'], ['--synchronous'], ['--no-extents', '--request-size=4096']]) {
      await runOk('nbdcopy', ...flags, '--flush', server.tcp('demo'), server.unix('copy'));
      await runOk('nbdcopy', '--allocated', server.unix('copy'), join(server.directory, 'again.raw'));
      expect((await readFile(join(server.directory, 'again.raw'))).equals(await readFile(path))).toBe(true);
    }
  });
});

describe('nbddump', () => {
  interopTest(['nbddump', 'nbdcopy'], 'prints data and passes over holes', async () => {
    await runOk('nbdcopy', '--flush', (await makeImage('dump.raw')).path, server.tcp('demo'));
    const text = await runOk('nbddump', server.tcp('demo'));
    expect(text).toMatch(/^0000000000: 00 .*\n\*\n0000100000: /);
    expect(text).toContain('0000ffec70: 00 00 00 00 00 00 00 00  07 07 07 07 07 07 07 07');
    expect(await runOk('nbddump', '--length=32', server.unix('copy'))).toMatch(/^0000000000: [0 ]+ \|\.{16}\|\n\*\n$/);
  });
});

function canFuse(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Mounts `demo` as a file, writes to it and reads it back, there and over NBD. */
async function useAsFile(): Promise<void> {
  const mount = join(server.directory, 'mount');
  await mkdir(mount);
  const file = join(mount, 'disk');
  const child = spawn('nbdfuse', ['--connections=4', file, server.tcp('demo')], { env: TOOL_ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  try {
    while (!existsSync(file) && child.exitCode === null) await passed(20);
    const handle = await open(file, 'r+');
    const payload = Buffer.from(Array.from({ length: 100_000 }, (_, index) => index % 253));
    await handle.write(payload, 0, payload.length, 12_345);
    await handle.sync();
    const found = Buffer.alloc(payload.length + 2);
    await handle.read(found, 0, found.length, 12_344);
    await handle.close();
    expect(found.subarray(1, -1).equals(payload)).toBe(true);
    expect((await stat(file)).size).toBe(16 * MIB);
  } finally {
    await runOk('fusermount3', '-u', mount);
  }
  expect(await ended).toEqual([0, null]);
  await runOk('nbdsh', '-u', server.tcp('demo'), '-c', 'assert bytes(h.pread(100000, 12345)) == bytes(i % 253 for i in range(100000))');
}

describe('nbdfuse', () => {
  interopTest(['nbdfuse', 'fusermount3', 'nbdsh'], 'makes a file of a volume, written and synced through it', useAsFile, canFuse() ? null : '/dev/fuse cannot be opened');
});
