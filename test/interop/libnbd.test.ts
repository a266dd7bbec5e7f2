import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { RealServer } from './real-server.ts';
import { interopTest, runOk, runTool } from './tools.ts';

const MIB = 1024 * 1024;
let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('demo', '64M');
  await server.createVolume('größe & Co', '1M', 'strict');
  await server.createVolume('huge', '1T');
  await server.createVolume('model', '16M');
  await server.start('--listen', '[::1]:0');
});
afterAll(() => server.dispose());

const transports = [
  { transport: 'tcp', uri: (volume: string) => server.tcp(volume) },
  { transport: 'unix', uri: (volume: string) => server.unix(volume) },
];

/** nbdcopy's other end: data that is made and checked by its seed alone. */
function sparseRandom(seed: number): string[] {
  return ['--', '[', 'nbdkit', '--exit-with-parent', 'sparse-random', '64M', `seed=${seed}`, 'percent=60', ']'];
}

describe.each(transports)('nbdinfo on $transport', ({ uri }) => {
  interopTest(['nbdinfo'], 'reads the size', async () => {
    expect((await runOk('nbdinfo', '--size', uri('demo'))).trim()).toBe(String(64 * MIB));
    expect((await runOk('nbdinfo', '--size', uri('huge'))).trim()).toBe(String(2 ** 40));
  });

  interopTest(['nbdinfo'], 'sees what the server can do', async () => {
    const report: unknown = JSON.parse(await runOk('nbdinfo', '--json', uri('demo')));
    const demo = {
      'export-name': 'demo',
      'export-size': 64 * MIB,
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      can_fast_zero: true,
      can_cache: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 32 * MIB,
    };
    expect(report).toMatchObject({ exports: [demo] });
  });

  interopTest(['nbdinfo'], 'lists every export', async () => {
    const report: unknown = JSON.parse(await runOk('nbdinfo', '--json', '--list', uri('')));
    expect(report).toMatchObject({ exports: [{ 'export-name': 'demo' }, { 'export-name': 'größe & Co' }, { 'export-name': 'huge' }, { 'export-name': 'model' }] });
  });

  interopTest(['nbdinfo'], 'opens a name with spaces, umlauts and signs', async () => {
    expect((await runOk('nbdinfo', '--size', uri(encodeURIComponent('größe & Co')))).trim()).toBe(String(MIB));
  });

  interopTest(['nbdinfo'], 'is told that an export is unknown', async () => {
    const { status, error } = await runTool('nbdinfo', [uri('none')]);
    expect(status).not.toBe(0);
    expect(error).toMatch(/none|not found|no such|unknown/i);
  });
});

describe('nbdinfo', () => {
  interopTest(['nbdinfo'], 'connects over IPv6', async () => {
    const port = /nbd:\/\/\[::1\]:(\d+)/.exec(server.process.out)?.[1];
    expect((await runOk('nbdinfo', '--size', `nbd://[::1]:${port}/demo`)).trim()).toBe(String(64 * MIB));
  });
});

describe.each(transports)('nbdcopy on $transport', ({ transport, uri }) => {
  interopTest(['nbdcopy', 'nbdkit'], 'copies in and back over 1 and 4 connections', async () => {
    for (const connections of [1, 4]) {
      const seed = transport === 'tcp' ? connections : 10 + connections;
      const flags = [`--connections=${connections}`, '--requests=64'];
      await runOk('nbdcopy', ...flags, '--flush', ...sparseRandom(seed), uri('demo'));
      await runOk('nbdcopy', ...flags, uri('demo'), ...sparseRandom(seed));
    }
  });

  interopTest(['nbdcopy', 'nbdkit'], 'notices data of another seed', async () => {
    await runOk('nbdcopy', '--flush', ...sparseRandom(5), uri('demo'));
    const { status } = await runTool('nbdcopy', [uri('demo'), ...sparseRandom(6)]);
    expect(status).not.toBe(0);
  });
});

/** A shell of libnbd on `uri`; `script` is Python with the handle `h`. Fails if the script raises. */
const shell = (uri: string, script: string): Promise<string> => runOk('nbdsh', '-u', uri, '-c', script);

describe.each(transports)('nbdsh on $transport', ({ uri }) => {
  interopTest(['nbdsh'], 'reads back what it wrote, at any alignment', async () => {
    const script = `
h.zero(65536, 0)
h.pwrite(b"a" * 8192, 4096)
h.pwrite(b"b" * 5000, 4097, nbd.CMD_FLAG_FUA)
h.pwrite(b"c", 9000)
want = bytes(4096) + b"a" + b"b" * 4903 + b"c" + b"b" * 96 + b"a" * (8192 - 5001) + bytes(100)
got = bytes(h.pread(len(want), 0))
assert got == want, "differs at %d" % next(i for i in range(len(want)) if got[i] != want[i])
h.flush()
h.shutdown()
`;
    await shell(uri('demo'), script);
  });

  interopTest(['nbdsh'], 'zero, zero without a hole, fast zero and trim all read as zeroes', async () => {
    const script = `
h.pwrite(b"x" * 262144, 0)
h.zero(65536, 0)
h.zero(65536, 65536, nbd.CMD_FLAG_NO_HOLE)
h.zero(65536, 131072, nbd.CMD_FLAG_FAST_ZERO)
h.trim(65536, 196608, nbd.CMD_FLAG_FUA)
h.cache(262144, 0)
assert bytes(h.pread(262144, 0)) == bytes(262144)
h.pwrite(b"y" * 3, 1000)
h.zero(1, 1001)
assert bytes(h.pread(5, 999)) == b"\\0y\\0y\\0"
`;
    await shell(uri('demo'), script);
  });

  interopTest(['nbdsh'], 'a write answered on one connection is read on the other, and one flush covers both', async () => {
    const script = `
h2 = nbd.NBD()
h2.connect_uri("${uri('demo')}")
for i in range(50):
    h.pwrite(bytes([i + 1]) * 700, 1000 * i)
    h2.pwrite(bytes([i + 101]) * 300, 1000 * i + 700)
    assert bytes(h2.pread(1000, 1000 * i)) == bytes([i + 1]) * 700 + bytes([i + 101]) * 300
h2.flush()
h2.shutdown()
`;
    await shell(uri('demo'), script);
  });

  interopTest(['nbdsh'], 'requests of 32 MiB work', async () => {
    const script = `
import os
data = os.urandom(32 * 1024 * 1024)
h.pwrite(data, 12345)
assert h.pread(len(data), 12345) == data
`;
    await shell(uri('demo'), script);
  });

  interopTest(['nbdsh'], 'a request past the end is refused with the right errno, and the connection lives on', async () => {
    const script = `
import errno
h.set_strict_mode(0)
size = h.get_size()
def refused(want, call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        assert error.errnum == want, "%s: %s" % (args, error)
        return
    raise AssertionError("not refused: %s" % (args,))
refused(errno.EINVAL, h.pread, 4096, size)
refused(errno.EINVAL, h.pread, 4096, size - 4095)
refused(errno.ENOSPC, h.pwrite, b"x" * 4096, size - 4095)
refused(errno.ENOSPC, h.zero, 4096, size - 4095)
refused(errno.EINVAL, h.trim, 4096, size - 4095)
refused(errno.EINVAL, h.pread, 4096, 2 ** 63 - 4096)
h.pwrite(b"end", size - 3)
assert bytes(h.pread(3, size - 3)) == b"end"
`;
    await shell(uri('demo'), script);
  });

  interopTest(['nbdsh'], 'a trim of a whole terabyte is quick', async () => {
    const script = `
import time
h.pwrite(b"x" * 65536, 2 ** 39)
start = time.monotonic()
step = 2 ** 31
for offset in range(0, h.get_size(), step):
    h.trim(step, offset)
spent = time.monotonic() - start
assert bytes(h.pread(65536, 2 ** 39)) == bytes(65536)
print(spent)
`;
    expect(Number(await shell(uri('huge'), script))).toBeLessThan(2);
  });
});

describe('random requests over three connections', () => {
  for (const seed of [1, 2]) {
    interopTest(['nbdsh'], `find what a model has, seed ${seed}`, async () => {
      const script = await readFile(join(PROJECT_ROOT, 'test/interop/nbdsh-model.py'), 'utf8');
      await runOk('nbdsh', '-c', `uri, seed, rounds = "${server.unix('model')}", ${seed}, 100`, '-c', script);
    });
  }
});
