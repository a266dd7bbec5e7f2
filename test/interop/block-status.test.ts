/** Structured replies and block status, by the clients that people use. */
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { RealServer } from './real-server.ts';
import { interopTest, runOk } from './tools.ts';

const MIB = 1024 * 1024;
let server: RealServer;

beforeAll(async () => {
  server = await RealServer.create();
  await server.createVolume('map', '64M');
  await server.createVolume('copy', '64M');
  await server.createVolume('huge', '1T');
  await server.start();
});
afterAll(() => server.dispose());

/** Data in [1 MiB, 2 MiB), provisioned zeroes in [4 MiB, 5 MiB), nothing else. */
async function lay(volume: string): Promise<void> {
  await runOk('qemu-io', '-f', 'raw', '-c', `write -P 90 ${MIB} ${MIB}`, '-c', `write -P 91 ${4 * MIB} ${MIB}`, '-c', `write -z ${4 * MIB} ${MIB}`, '-c', 'flush', server.tcp(volume));
}

/** `offset length type` of each line of `nbdinfo --map`. */
function lines(text: string): number[][] {
  return text.trim().split('\n').map((line) => line.trim().split(/\s+/).slice(0, 3).map(Number));
}

describe('nbdinfo', () => {
  interopTest(['nbdinfo', 'qemu-io'], 'maps data, holes and zeroes', async () => {
    await lay('map');
    const expected = [
      [0, MIB, 3],
      [MIB, MIB, 0],
      [2 * MIB, 2 * MIB, 3],
      [4 * MIB, MIB, 2],
      [5 * MIB, 59 * MIB, 3],
    ];
    expect(lines(await runOk('nbdinfo', '--map', server.tcp('map')))).toEqual(expected);
    expect(lines(await runOk('nbdinfo', '--map', server.unix('map')))).toEqual(expected);
  });

  interopTest(['nbdinfo'], 'maps the states of blocks', async () => {
    const states = lines(await runOk('nbdinfo', '--map=basalt:state', server.tcp('map')));
    expect(states[0]).toEqual([0, MIB, 16]);
    expect([1, 2, 4, 8]).toContain(states[1][2]);
    expect(states.find(([offset]) => offset === 4 * MIB)).toEqual([4 * MIB, MIB, 48]);
  });

  interopTest(['nbdinfo'], 'maps the depth of allocation, as qemu has it', async () => {
    expect(lines(await runOk('nbdinfo', '--map=qemu:allocation-depth', server.tcp('map')))).toEqual([
      [0, MIB, 0],
      [MIB, MIB, 1],
      [2 * MIB, 2 * MIB, 0],
      [4 * MIB, MIB, 1],
      [5 * MIB, 59 * MIB, 0],
    ]);
  });

  interopTest(['qemu-img'], 'tells qemu-img the same, which asks for it by name', async () => {
    const options = `driver=nbd,host=127.0.0.1,port=${server.port},export=map,x-dirty-bitmap=qemu:allocation-depth`;
    const map: unknown = JSON.parse(await runOk('qemu-img', 'map', '--output=json', '--image-opts', options));
    // With x-dirty-bitmap, qemu-img shows bit 0 of the context as "no data".
    expect(map).toMatchObject([{ start: 0, data: true }, { start: MIB, length: MIB, data: false }, { start: 2 * MIB, data: true }, { start: 4 * MIB, length: MIB, data: false }, { start: 5 * MIB, data: true }]);
  });

  interopTest(['nbdinfo'], 'maps an empty volume of 1 TiB at once', async () => {
    const startMs = Date.now();
    expect(lines(await runOk('nbdinfo', '--map', server.tcp('huge')))).toEqual([[0, 2 ** 40, 3]]);
    expect(Date.now() - startMs).toBeLessThan(3000);
  });

  interopTest(['nbdinfo'], 'is told of DF and of the contexts', async () => {
    await runOk('nbdinfo', '--can', 'df', server.tcp('map'));
    await runOk('nbdinfo', '--can', 'structured', server.tcp('map'));
    const report: unknown = JSON.parse(await runOk('nbdinfo', '--json', server.tcp('map')));
    expect(report).toMatchObject({ exports: [{ can_df: true, contexts: ['base:allocation', 'basalt:state', 'qemu:allocation-depth'] }] });
  });
});

describe('copies of a sparse volume', () => {
  interopTest(['nbdcopy', 'nbdinfo', 'qemu-io'], 'by nbdcopy stay sparse and equal', async () => {
    await runOk('nbdcopy', '--connections=4', '--flush', server.tcp('map'), server.tcp('copy'));
    const map = lines(await runOk('nbdinfo', '--map', server.tcp('copy')));
    expect(map.filter(([, , type]) => type === 0)).toEqual([[MIB, MIB, 0]]);
    await runOk('qemu-io', '-f', 'raw', '-c', `read -P 90 ${MIB} ${MIB}`, '-c', `read -P 0 0 ${MIB}`, '-c', `read -P 0 2M 62M`, server.tcp('copy'));
  });

  interopTest(['qemu-img', 'qemu-io'], 'are told apart and compared by qemu-img', async () => {
    const map: unknown = JSON.parse(await runOk('qemu-img', 'map', '--output=json', '-f', 'raw', server.tcp('map')));
    expect(map).toMatchObject([
      { start: 0, length: MIB, zero: true, data: false },
      { start: MIB, length: MIB, zero: false, data: true },
      { start: 2 * MIB, length: 2 * MIB, zero: true, data: false },
      { start: 4 * MIB, length: MIB, zero: true, data: true },
      { start: 5 * MIB, length: 59 * MIB, zero: true, data: false },
    ]);
    await runOk('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', server.tcp('map'), server.tcp('copy'));
  });
});

describe('nbdsh', () => {
  interopTest(['nbdsh', 'qemu-io'], 'reads in pieces, asks for the status of one extent and gets errors with words', async () => {
    await lay('map');
    const script = [
      'chunks = []',
      'def seen(buf, offset, status, err): chunks.append((offset, len(buf), status))',
      `h.pread_structured(3 * ${MIB}, 0, seen)`,
      `assert sorted(chunks) == [(0, ${MIB}, nbd.READ_HOLE), (${MIB}, ${MIB}, nbd.READ_DATA), (2 * ${MIB}, ${MIB}, nbd.READ_HOLE)], chunks`,
      'chunks.clear()',
      `h.pread_structured(3 * ${MIB}, 0, seen, nbd.CMD_FLAG_DF)`,
      `assert chunks == [(0, 3 * ${MIB}, nbd.READ_DATA)], chunks`,
      'found = []',
      'def status(context, offset, extents, err): found.append((context, offset, extents))',
      `h.block_status(${63 * MIB}, ${MIB}, status, nbd.CMD_FLAG_REQ_ONE)`,
      `assert found == [("base:allocation", ${MIB}, [${MIB}, 0])], found`,
      'h.set_strict_mode(0)',
      'try:',
      `  h.pread(512, ${64 * MIB})`,
      '  raise SystemExit("no error")',
      'except nbd.Error as error:',
      '  assert error.errno == "EINVAL", error',
    ].join('\n');
    await runOk('nbdsh', '-c', 'h.add_meta_context("base:allocation")', '-c', `h.connect_uri("${server.tcp('map')}")`, '-c', script);
  });
});
