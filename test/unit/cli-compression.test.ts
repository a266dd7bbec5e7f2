import { beforeEach, describe, expect, test } from 'vitest';
import type { VolumeCompression } from '../../src/base/compression.ts';
import { VolumeError } from '../../src/base/errors.ts';
import { chunkSpaceOf } from '../../src/volume/volume-info.ts';
import { FakeCli, NOT_ASKED } from '../support/cli-double.ts';

let cli: FakeCli;
beforeEach(async () => {
  cli = new FakeCli();
  await cli.run('create', 'demo', '1G');
  cli.volumes.closed = 0;
});

const compressionOf = (name: string): string | undefined => cli.volumes.infos.get(name)?.compression;

describe('create', () => {
  test('leaves it to the settings unless it is told', async () => {
    expect(compressionOf('demo')).toBe('default');
    for (const compression of ['lz4', 'none', 'default']) {
      expect(await cli.run('create', `of-${compression}`, '1G', '--compression', compression)).toBe(0);
      expect(compressionOf(`of-${compression}`)).toBe(compression);
    }
  });

  test.each([
    [['--compression', 'lz5'], 'compression "lz5" is none of default, none, lz4; did you mean lz4?'],
    [['--compression', 'non'], 'compression "non" is none of default, none, lz4; did you mean none?'],
    [['--compression', 'lz4', '--compression', 'none'], '--compression is given 2 times; give it once'],
    [['--compresion', 'lz4'], 'create: no flag --compresion; did you mean --compression?'],
    [['--compression'], '--compression takes a value'],
  ])('%j is wrong usage', async (flags, message) => {
    expect(await cli.run('create', 'other', '1G', ...flags)).toBe(2);
    expect(cli.error).toContain(message);
    expect(compressionOf('other')).toBeUndefined();
  });
});

describe('compression', () => {
  test.each([
    ['lz4', 'lz4', 'new chunks of demo are compressed (lz4) from now on; older ones follow as they are rewritten\n'],
    ['none', 'off', 'new chunks of demo are not compressed from now on; older ones follow as they are rewritten\n'],
    ['default', 'off', 'new chunks of demo are compressed or not as the settings of whoever serves it say from now on; older ones follow as they are rewritten\n'],
  ])('changes a volume that nobody serves to %s', async (method, chunkCompress, words) => {
    expect(await cli.run('compression', 'demo', method, '--data', 'here')).toBe(0);
    expect(cli.asked, 'the first is for the making').toEqual(['./volumes', 'here']);
    expect(cli.out).toBe(words);
    expect([compressionOf('demo'), cli.volumes.closed]).toEqual([method, 1]);
    expect(await cli.run('compression', 'demo', method, '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', compression: method, chunkCompress, live: false });
  });

  test('asks the server that runs in the directory', async () => {
    const changes: [string, VolumeCompression][] = [];
    const setCompression = (name: string, compression: VolumeCompression): Promise<'lz4'> => {
      changes.push([name, compression]);
      return Promise.resolve('lz4');
    };
    cli.server = { ...NOT_ASKED, setCompression };
    cli.opened.length = 0;
    expect(await cli.run('compression', 'demo', 'default')).toBe(0);
    expect(cli.out).toBe('new chunks of demo are compressed (lz4), as the settings of its server say, from now on; older ones follow as they are rewritten\n');
    expect(await cli.run('compression', 'demo', 'lz4', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toEqual({ name: 'demo', compression: 'lz4', chunkCompress: 'lz4', live: true });
    expect(changes).toEqual([['demo', 'default'], ['demo', 'lz4']]);
    expect([compressionOf('demo'), cli.opened]).toEqual(['default', []]);
  });

  test.each([
    [['demo', 'lz'], 2, 'compression "lz" is none of default, none, lz4; did you mean lz4?'],
    [['demo', 'nome'], 2, 'compression "nome" is none of default, none, lz4; did you mean none?'],
    [['demo', 'zstd'], 2, 'compression "zstd" is none of default, none, lz4; did you mean none?'],
    [['demo'], 2, 'compression: something is missing; usage: basalt compression NAME METHOD'],
    [['demo', 'lz4', 'now'], 2, 'compression: unexpected argument "now"; usage: basalt compression NAME METHOD'],
    [['demo', 'lz4', '--jsn'], 2, 'compression: no flag --jsn; did you mean --json?'],
    [['none', 'lz4'], 1, 'no volume none'],
  ])('%j is refused', async (words, code, message) => {
    expect(await cli.run('compression', ...words)).toBe(code);
    expect(cli.error).toContain(message);
    expect(compressionOf('demo')).toBe('default');
  });

  test('is the nearest verb to what is nearly it, and passes the server\'s error on', async () => {
    expect(await cli.run('compress', 'demo', 'lz4')).toBe(2);
    expect(cli.error).toContain('no verb "compress"; did you mean compression?');
    cli.server = { ...NOT_ASKED, setCompression: () => Promise.reject(new VolumeError('no-space', 'the disk is full')) };
    expect(await cli.run('compression', 'demo', 'lz4', '--json')).toBe(1);
    expect(JSON.parse(cli.error)).toMatchObject({ error: { code: 'no-space', message: 'the disk is full' } });
  });
});

describe('show', () => {
  test('of a volume that nobody serves says what its chunks take', async () => {
    cli.volumes.space = chunkSpaceOf({ liveBytes: 3 * 2 ** 20, liveStoredBytes: 2 ** 20, storedChunkBytes: 2 * 2 ** 20 });
    await cli.run('compression', 'demo', 'lz4');
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).toMatch(/^compressed +log: auto; new chunks: lz4, as the volume says$/m);
    expect(cli.out).toMatch(/^live in chunks +3 MiB in 2 MiB of chunks, compressed 3\.00 : 1$/m);
    expect(await cli.run('show', 'demo', '--json')).toBe(0);
    expect(JSON.parse(cli.out)).toMatchObject({ compression: 'lz4', chunkCompress: 'lz4', live: null, space: { liveBytes: 3 * 2 ** 20, compressionRatio: 3 } });
  });

  test('says nothing of a ratio where there is none', async () => {
    expect(await cli.run('show', 'demo')).toBe(0);
    expect(cli.out).not.toContain('live in chunks');
    for (const liveBytes of [0, 4096]) {
      cli.volumes.space = chunkSpaceOf({ liveBytes, liveStoredBytes: liveBytes, storedChunkBytes: 8192 });
      expect(await cli.run('show', 'demo')).toBe(0);
      expect(cli.out).toMatch(/^live in chunks .* of chunks$/m);
    }
  });
});
