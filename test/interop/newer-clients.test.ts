/**
 * Extended headers, spoken by clients that others wrote: libnbd 1.22 and QEMU 10, which are newer than what CI installs. `make newer-clients`
 * fetches them and runs this; otherwise it is skipped.
 */
import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { NBD_CMD_BLOCK_STATUS, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES } from '../../src/protocol/constants.ts';
import { Recorder } from './capture.ts';
import { PROJECT_ROOT } from '../support/source-tree.ts';
import { TestPki } from '../support/test-pki.ts';
import { RealServer } from './real-server.ts';
import { interopTest, runProgram, type Tool } from './tools.ts';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const TIB = 1024 * GIB;
const directory = process.env.NEWER_CLIENTS ?? '';
const obstacle = directory !== '' && existsSync(join(directory, 'tools')) ? null : 'see `make newer-clients`';
let server: RealServer;

beforeAll(async () => {
  if (obstacle !== null) return;
  server = await RealServer.create();
  await server.createVolume('huge', '8T');
  await server.createVolume('empty', '1T');
  for (const name of ['demo', 'copy']) await server.createVolume(name, '64M');
  await server.createVolume('model', '16M');
  await server.start();
});
afterAll(async () => {
  if (obstacle === null) await server.dispose();
});

function newerTest(needed: readonly Tool[], name: string, run: () => Promise<void>): void {
  interopTest(needed, name, run, obstacle);
}

/** Runs one of the newer clients, which must succeed; returns what it printed. */
async function newer(tool: Tool, ...words: string[]): Promise<string> {
  const { status, out, error } = await runProgram(join(directory, 'tools', tool), words);
  expect(status, `${tool} ${words.join(' ')}\n${out}${error}`).toBe(0);
  return out;
}

/** A shell of libnbd with the handle `h`, connected with all contexts. Fails if the script raises. */
function shell(uri: string, script: string): Promise<string> {
  const before = ['base:allocation', 'basalt:state', 'qemu:allocation-depth'].map((context) => `h.add_meta_context("${context}")`);
  return newer('nbdsh', '-c', [...before, `h.connect_uri("${uri}")`, 'assert h.get_extended_headers_negotiated()', script].join('\n'));
}

/** Lengths of the extended requests of one command, in order. Found by their header: none of what these tests write looks like one. */
function extendedLengths(bytes: Buffer, command: number): number[] {
  const lengths: number[] = [];
  for (let at = bytes.indexOf('21e41c71', 0, 'hex'); at >= 0; at = bytes.indexOf('21e41c71', at + 4, 'hex')) {
    if (bytes.readUInt16BE(at + 6) === command) lengths.push(Number(bytes.readBigUInt64BE(at + 24)));
  }
  return lengths;
}

/** What goes over the wire while `use` runs with the port of a relay. */
async function recorded(use: (port: number) => Promise<unknown>): Promise<Buffer> {
  const recorder = await Recorder.to(server.socketPath);
  await use(recorder.port);
  recorder.stop();
  return recorder.fromClients;
}

describe('libnbd', () => {
  newerTest([], 'nbdinfo finds extended packets, and each context', async () => {
    const report: unknown = JSON.parse(await newer('nbdinfo', '--json', server.tcp('huge')));
    const contexts = ['base:allocation', 'basalt:state', 'qemu:allocation-depth'];
    expect(report).toMatchObject({ structured: true, extended: true, exports: [{ 'export-size': 8 * TIB, contexts, can_df: true, block_size_maximum: 32 * MIB }] });
    for (const ability of ['extended-headers', 'structured-reply', 'df', 'multi-conn', 'fast-zero', 'cache']) await newer('nbdinfo', '--can', ability, server.unix('huge'));
  });

  newerTest([], 'nbdinfo maps a terabyte with one request', async () => {
    const bytes = await recorded(async (port) => {
      expect((await newer('nbdinfo', '--map', `nbd://127.0.0.1:${port}/empty`)).trim().split(/\s+/).slice(0, 3).map(Number)).toEqual([0, TIB, 3]);
    });
    expect(extendedLengths(bytes, NBD_CMD_BLOCK_STATUS)).toEqual([TIB]);
  });

  newerTest([], 'trims and zeroes terabytes in one request, and tells of it in 64 bits', async () => {
    const script = [
      'T = 2 ** 40',
      'def status(filter=None):',
      '  found = {}',
      '  def add(name, offset, extents, error): found[name] = extents',
      '  if filter is None: h.block_status_64(h.get_size(), 0, add)',
      '  else: h.block_status_filter(h.get_size(), 0, filter, add)',
      '  return found',
      'for at in (0, 5 * 2 ** 30, 7 * T): h.pwrite(b"x" * 65536, at)',
      'h.trim(7 * T, 0)',
      'assert status()["base:allocation"] == [(7 * T, 3), (65536, 0), (T - 65536, 3)], status()',
      'h.pwrite(b"y" * 65536, 5 * 2 ** 30)',
      'h.zero(8 * T, 0, nbd.CMD_FLAG_FUA)',
      'assert status() == {"base:allocation": [(8 * T, 3)], "basalt:state": [(8 * T, 16)], "qemu:allocation-depth": [(8 * T, 0)]}, status()',
      'h.zero(5 * 2 ** 30, 4096, nbd.CMD_FLAG_NO_HOLE)',
      'assert status(["qemu:allocation-depth"]) == {"qemu:allocation-depth": [(4096, 0), (5 * 2 ** 30, 1), (8 * T - 5 * 2 ** 30 - 4096, 0)]}',
      'assert bytes(h.pread(65536, 5 * 2 ** 30)) == bytes(65536)',
      'h.cache(6 * T, 0)',
      'h.trim(8 * T, 0)',
      'h.shutdown()',
    ].join('\n');
    const bytes = await recorded((port) => shell(`nbd://127.0.0.1:${port}/huge`, script));
    expect(extendedLengths(bytes, NBD_CMD_TRIM)).toEqual([7 * TIB, 8 * TIB]);
    expect(extendedLengths(bytes, NBD_CMD_WRITE_ZEROES)).toEqual([8 * TIB, 5 * GIB]);
  });

  newerTest([], 'reads holes and data, and words of errors', async () => {
    const script = [
      'h.trim(h.get_size(), 0)',
      'h.pwrite(b"z" * 4096, 8192, nbd.CMD_FLAG_FUA)',
      'chunks = []',
      'h.pread_structured(16384, 0, lambda buf, offset, status, error: chunks.append((offset, len(buf), status)))',
      'assert sorted(chunks) == [(0, 8192, nbd.READ_HOLE), (8192, 4096, nbd.READ_DATA), (12288, 4096, nbd.READ_HOLE)], chunks',
      'chunks.clear()',
      'h.pread_structured(16384, 0, lambda buf, offset, status, error: chunks.append(bytes(buf)), nbd.CMD_FLAG_DF)',
      'assert chunks == [bytes(8192) + b"z" * 4096 + bytes(4096)], chunks',
      'h.set_strict_mode(0)',
      'for refused in (lambda: h.pread(512, h.get_size()), lambda: h.trim(2 ** 62, 0), lambda: h.zero(2 ** 50, 0)):',
      '  try:',
      '    refused()',
      '    raise SystemExit("not refused")',
      '  except nbd.Error as error:',
      '    assert error.errno in ("EINVAL", "ENOSPC"), error',
      'h.flush()',
      'assert h.pread(4096, 8192) == b"z" * 4096',
    ].join('\n');
    await shell(server.tcp('huge'), script);
  });

  newerTest(['nbdkit'], 'nbdcopy copies in and back over 4 connections, and a whole empty terabyte', async () => {
    const source = '[ nbdkit --exit-with-parent sparse-random 64M seed=11 percent=60 ]'.split(' ');
    await newer('nbdcopy', '--connections=4', '--flush', '--', ...source, server.tcp('demo'));
    await newer('nbdcopy', '--connections=4', '--', server.tcp('demo'), ...source);
    await newer('nbdcopy', '--connections=4', '--flush', server.tcp('empty'), server.tcp('huge'));
    expect((await newer('nbdinfo', '--map', server.tcp('huge'))).trim().split('\n')).toHaveLength(1);
  });
});

const io = (uri: string, ...commands: string[]): Promise<string> => newer('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri);

newerTest([], 'random requests over three connections find what a model has', async () => {
  const script = await readFile(join(PROJECT_ROOT, 'test/interop/nbdsh-model.py'), 'utf8');
  await newer('nbdsh', '-c', `uri, seed, rounds = "${server.unix('model')}", 3, 300`, '-c', script, '-c', 'assert [h.get_extended_headers_negotiated() for h in handles] == [True, True, False]');
});

describe('QEMU', () => {
  newerTest([], 'qemu-io zeroes 7 TiB in one request', async () => {
    await io(server.tcp('huge'), 'write -P 90 5G 64k', 'write -P 91 7T 64k');
    const bytes = await recorded((port) => io(`nbd://127.0.0.1:${port}/huge`, 'write -z -u -n 0 7T', 'flush'));
    expect(extendedLengths(bytes, NBD_CMD_WRITE_ZEROES)).toEqual([7 * TIB]);
    await io(server.tcp('huge'), 'read -P 0 5G 64k', 'read -P 91 7T 64k', 'discard 7T 1G', 'read -P 0 7T 64k');
  });

  newerTest([], 'qemu-img maps 8 TiB', async () => {
    await io(server.tcp('huge'), 'write -P 90 5T 1M');
    const map: unknown = JSON.parse(await newer('qemu-img', 'map', '--output=json', '-f', 'raw', server.tcp('huge')));
    expect(map).toMatchObject([
      { start: 0, length: 5 * TIB, zero: true, data: false },
      { start: 5 * TIB, length: MIB, zero: false, data: true },
      { start: 5 * TIB + MIB, length: 3 * TIB - MIB, zero: true, data: false },
    ]);
  });

  newerTest([], 'qemu-img converts in and out, and compares', async () => {
    const path = join(server.directory, 'image.raw');
    const file = await open(path, 'w');
    await file.truncate(64 * MIB);
    await file.write(Buffer.alloc(5 * MIB + 512, 'basalt'), 0, undefined, 3 * MIB + 512);
    await file.close();
    await newer('qemu-img', 'convert', '-n', '-W', '-f', 'raw', '-O', 'raw', path, server.tcp('copy'));
    await newer('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', path, server.unix('copy'));
    await newer('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', server.tcp('copy'), `${path}.out`);
    expect((await readFile(`${path}.out`)).equals(await readFile(path))).toBe(true);
    await newer('qemu-img', 'bench', '-f', 'raw', '-t', 'none', '-d', '32', '-c', '2000', '-w', '--flush-interval=100', server.tcp('copy'));
  });
});

newerTest(['nbdkit'], 'extended headers are agreed on anew behind STARTTLS', async () => {
  const pki = await TestPki.create();
  const secured = await RealServer.create();
  try {
    await secured.createVolume('demo', '64M');
    await secured.start('--server.tls', 'forced', '--server.tls-verify-peer', 'true', '--server.tls-certificates', pki.directory);
    const uri = `nbds+unix:///demo?socket=${secured.socketPath}&tls-hostname=localhost&tls-certificates=${pki.directory}`;
    const report: unknown = JSON.parse(await newer('nbdinfo', '--json', uri));
    expect(report).toMatchObject({ TLS: true, structured: true, extended: true, exports: [{ 'export-name': 'demo', can_df: true }] });
    const source = '[ nbdkit --exit-with-parent sparse-random 64M seed=12 percent=60 ]'.split(' ');
    await newer('nbdcopy', '--connections=4', '--flush', '--', ...source, uri);
    await newer('nbdcopy', '--connections=4', '--', uri, ...source);
    const image = `driver=nbd,host=127.0.0.1,port=${secured.port},export=demo,tls-creds=t`;
    await newer('qemu-img', 'map', '--object', `tls-creds-x509,id=t,dir=${pki.directory},endpoint=client`, '--image-opts', image);
  } finally {
    await secured.dispose();
    await pki.dispose();
  }
});
