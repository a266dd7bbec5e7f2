/** nbdkit's nbd plugin in front of a volume, with filters between: they ask in other sizes, orders and ways than any other client. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk } from './tools.ts';

const MIB = 1024 * 1024;
let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  for (const name of ['plain', 'base', 'parted']) await server.createVolume(name, '32M');
  await server.start();
});
afterAll(() => server.dispose());

/** Runs a shell command with `$uri` set to the volume behind the filters. Nothing but words of these tests comes in. */
function behind(volume: string, filters: readonly string[], options: readonly string[], command: string): Promise<string> {
  return runOk('nbdkit', '-U', '-', ...filters.map((filter) => `--filter=${filter}`), 'nbd', `uri=${server.tcp(volume)}`, ...options, '--run', command);
}

/** Data that is made and checked by its seed alone. */
const sparseRandom = (seed: number): string => `[ nbdkit --exit-with-parent sparse-random 32M seed=${seed} percent=50 ]`;

const filterings: readonly { readonly filters: readonly string[]; readonly options: readonly string[] }[] = [
  { filters: [], options: [] },
  { filters: ['cache'], options: ['cache=writeback'] },
  { filters: ['blocksize'], options: ['minblock=4096', 'maxdata=64k', 'maxlen=1M'] },
  { filters: ['multi-conn'], options: ['multi-conn-mode=emulate'] },
  { filters: ['retry', 'delay'], options: ['retries=1', 'delay-read=1ms', 'delay-write=1ms'] },
  { filters: ['readahead', 'noparallel'], options: [] },
  { filters: ['fua', 'noextents'], options: ['fuamode=force'] },
  { filters: ['nozero'], options: ['zeromode=emulate'] },
  { filters: ['rate', 'stats'], options: ['rate=2G', 'statsfile=/dev/null'] },
  { filters: ['swab', 'swab'], options: ['swab-bits=16'] },
];

describe('a copy in and back', () => {
  for (const [seed, { filters, options }] of filterings.entries()) {
    interopTest(['nbdkit', 'nbdcopy'], filters.length === 0 ? 'without a filter' : `through ${filters.join(' and ')}`, async () => {
      await behind('plain', filters, options, `nbdcopy --flush -- ${sparseRandom(seed)} "$uri" && nbdcopy -- "$uri" ${sparseRandom(seed)}`);
      await runOk('nbdcopy', '--', server.unix('plain'), ...sparseRandom(seed).split(' '));
    });
  }
});

describe('the filter', () => {
  interopTest(['nbdkit', 'nbdsh', 'nbdcopy'], 'cow keeps all writes to itself', async () => {
    await runOk('nbdsh', '-u', server.tcp('base'), '-c', 'h.pwrite(b"a" * 65536, 1000000)');
    const script = ['h.pwrite(b"b" * 1000, 1000100)', 'h.pwrite(bytes(4096), 1040000)', 'h.flush()', 'assert bytes(h.pread(65536, 1000000)) == b"a" * 100 + b"b" * 1000 + b"a" * 38900 + bytes(4096) + b"a" * 21440'];
    await behind('base', ['cow'], [], `nbdsh -u "$uri" ${script.map((line) => `-c '${line}'`).join(' ')}`);
    await runOk('nbdsh', '-u', server.tcp('base'), '-c', 'assert bytes(h.pread(65536, 1000000)) == b"a" * 65536');
  });

  interopTest(['nbdkit', 'nbdcopy'], 'partition finds what nbdkit has laid out in a volume', async () => {
    const parts = await Promise.all(
      [1, 2].map(async (index) => {
        const path = join(server.directory, `part${index}`);
        await writeFile(path, Buffer.from(Array.from({ length: index * MIB }, (_, at) => (at * index) % 251)));
        return path;
      }),
    );
    for (const type of ['mbr', 'gpt']) {
      await runOk('nbdkit', '-U', '-', 'partitioning', ...parts.map((path) => `file=${path}`), `partition-type=${type}`, '--run', `nbdcopy --flush "$uri" '${server.tcp('parted')}'`);
      for (const [index, path] of parts.entries()) {
        const out = join(server.directory, `${type}${index}`);
        // A GPT's second copy stands at the end of the disk, which is not that of the volume.
        const filters = type === 'gpt' ? ['partition', 'truncate'] : ['partition'];
        const options = type === 'gpt' ? [`partition=${index + 1}`, `truncate=${5 * MIB}`] : [`partition=${index + 1}`];
        await behind('parted', filters, options, `nbdcopy "$uri" '${out}'`);
        expect((await readFile(out)).equals(await readFile(path))).toBe(true);
      }
    }
  });

  interopTest(['nbdkit', 'nbdsh', 'nbdinfo'], 'offset makes a window, and its map is that of the window', async () => {
    await runOk('nbdsh', '-u', server.tcp('base'), '-c', 'h.trim(h.get_size(), 0)', '-c', `h.pwrite(b"x" * ${MIB}, ${3 * MIB})`);
    const map = await behind('base', ['offset'], [`offset=${2 * MIB}`, `range=${3 * MIB}`], 'nbdinfo --map "$uri"');
    expect(map.trim().split('\n').map((line) => line.trim().split(/\s+/).slice(0, 3).map(Number))).toEqual([
      [0, MIB, 3],
      [MIB, MIB, 0],
      [2 * MIB, MIB, 3],
    ]);
  });

  interopTest(['nbdkit', 'nbdcopy'], 'checkwrite finds what was written, and nothing else', async () => {
    const path = join(server.directory, 'same');
    await writeFile(path, Buffer.alloc(32 * MIB).fill('basalt', 5 * MIB, 6 * MIB));
    await runOk('nbdcopy', '--flush', path, server.tcp('plain'));
    await behind('plain', ['checkwrite'], [], `nbdcopy '${path}' "$uri"`);
  });
});
